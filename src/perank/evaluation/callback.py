"""Evaluate the model on every suite after training, and optionally during it, on the trainer's devices.

Queries are distributed over the devices, and each is ranked once; rank 0 writes metrics.json, per-query scores and TREC
runs. Unusual: the model ranks in eval mode with a forked random state, so that training continues unchanged. SIGTERM
ends evaluation after the current batch; Lightning itself only checks for the signal between training steps. What can be
known beforehand is checked when training starts, and a suite that fails doesn't cost another one its results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from perank.errors import TERMINATED, BadInput
from perank.evaluation import Evaluation, RankedQueries, Suite, evaluate_ranked, rank_suite, read_entries
from perank.evaluation.attempts import check_prompts
from perank.model import gathered, is_sharded
from perank.records import Candidates, Ranker, Ranking

log = logging.getLogger(__name__)

_SHOWN = ("forwards_per_query", "seconds_per_query")  # costs logged next to the metrics


class RankingEvaluation(lightning.Callback):
    """Evaluates the model on `suites` when training ends, and every `every_n_steps` steps if set.

    `ranker_for` returns a ranker with the current weights; `baselines_for` returns the evaluations that p-values
    compare with. Raises `BadInput` if `every_n_steps` is below 1.
    """

    def __init__(
        self,
        suites: Sequence[Suite],
        ranker_for: Callable[[Suite], Ranker],
        baselines_for: Callable[[Suite], Sequence[Evaluation]],
        output: str | Path,
        *,
        system: str = "PE-Rank",
        every_n_steps: int | None = None,
        batch_size: int = 64,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            remedy = "use 1 or more, or null to evaluate only at the end"
            raise BadInput(f"evaluating every {every_n_steps} steps", remedy=remedy, id="evaluate_every")
        self.suites, self.ranker_for, self.baselines_for = suites, ranker_for, baselines_for
        self.output, self.system = Path(output), system
        self.every_n_steps, self.batch_size = every_n_steps, batch_size
        self.results: list[Evaluation] = []
        self._measured_at = 0

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Read the suites, encode their candidates, and evaluate the baselines: their errors come before training."""
        read_entries(self.output / "metrics.json")
        for suite in self.suites:
            suite.check()
            check_prompts(self.ranker_for(suite), suite)
            if trainer.is_global_zero:
                self.baselines_for(suite)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        step = trainer.global_step  # the same for several batches where gradients are accumulated
        due = self.every_n_steps and step % self.every_n_steps == 0 and step > self._measured_at
        if due and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch is False:
            self._measured_at = step
            try:
                self._measure(trainer, self._measured)
            except Exception:
                log.exception("the evaluation at step %d failed; training continues", step)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.finish(trainer)

    def finish(self, trainer: Any) -> None:
        """Evaluate, and write metrics.json, per-query scores and runs.

        After an error in a suite, the others are evaluated and written before it is raised.
        """
        errors: list[Exception] = []

        def measured(trainer: Any, suite: Suite) -> Evaluation | None:
            try:
                return self._saved(trainer, suite)
            except Exception as error:
                log.warning("the evaluation on %s failed: %s", suite.name, error)
                errors.append(error)
                return None

        self.results = self._measure(trainer, measured)
        if errors:
            raise errors[0]

    def _measure(self, trainer: Any, measured: Callable[[Any, Suite], Evaluation | None]) -> list[Evaluation]:
        with torch.random.fork_rng(enabled=True), gathered(trainer.lightning_module.model):
            return [found for suite in self.suites if (found := measured(trainer, suite)) is not None]

    def _saved(self, trainer: Any, suite: Suite) -> Evaluation:
        evaluation = self._measured(trainer, suite)
        if trainer.is_global_zero:
            baselines = self.baselines_for(suite)
            for system in [*baselines, evaluation]:
                system.save(self.output, against=baselines)
        return evaluation

    def _measured(self, trainer: Any, suite: Suite) -> Evaluation:
        together = is_sharded(trainer.lightning_module.model)  # a shard of the model cannot rank alone
        first, of = (0, 1) if together else (trainer.global_rank, trainer.world_size)
        ranker = _UntilTerminated(self.ranker_for(suite), trainer)
        mine, progress = suite.query_ids[first::of], trainer.is_global_zero
        ranked = _gathered(rank_suite(ranker, suite, mine, batch_size=self.batch_size, progress=progress))
        evaluation = evaluate_ranked(ranked, suite, system=self.system)
        shown = evaluation.means | {name: evaluation.costs[name] for name in _SHOWN if name in evaluation.costs}
        for logger in trainer.loggers:
            logger.log_metrics(
                {f"{suite.name}/{name}": value for name, value in shown.items()}, step=trainer.global_step
            )
        return evaluation


class _UntilTerminated:
    """A ranker that raises `SIGTERMException` before a batch if the trainer has received SIGTERM."""

    def __init__(self, ranker: Ranker, trainer: Any) -> None:
        self.ranker, self.trainer = ranker, trainer

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        if self.trainer.received_sigterm:
            raise SIGTERMException(TERMINATED)
        return self.ranker.rank_batch(batch)


def _gathered(mine: RankedQueries) -> RankedQueries:
    """Gather the rankings of all devices on every device; `seconds` is that of the slowest."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mine
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    run = {id: scores for ranked in everyone for id, scores in ranked.run.items()}
    bills = {id: bill for ranked in everyone for id, bill in ranked.bills.items()}
    failed = {id: error for ranked in everyone for id, error in ranked.failed.items()}
    shown = {id: scored for ranked in everyone for id, scored in ranked.shown.items()}
    return RankedQueries(run, bills, max(ranked.seconds for ranked in everyone), failed, shown)
