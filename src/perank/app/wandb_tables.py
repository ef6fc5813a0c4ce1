"""Log a run's config, results and example rankings to Weights & Biases. Only this file imports wandb.

`WANDB_MODE` selects online or offline; if unset, a run is online only with a login. `wandb sync` uploads offline runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from perank.errors import BadInput
from perank.evaluation import Evaluation, Suite
from perank.records import rank_order

_EXAMPLES, _DEPTH, _CHARACTERS = 5, 5, 160  # queries per suite, passages per query, characters per passage
EXAMPLE_COLUMNS = ("suite", "query", "rank", "first stage's rank", "grade", "passage")
_CHECKED = {  # of the logger's arguments: W&B's own names
    "tags": "run_tags",
    "project": "project",
    "id": "run_id",
    "name": "run_name",
    "group": "run_group",
    "job_type": "run_job_type",
}
_LONGEST_NAME = 128
_COSTS = ("forwards_per_query", "seconds_per_query")


def wandb_mode() -> str:
    """Return `WANDB_MODE`; if unset, online with a login, else offline. Raises `BadInput` for an unknown mode."""
    if mode := os.environ.get("WANDB_MODE"):
        if mode not in ("online", "offline", "disabled", "shared"):
            raise BadInput(f"WANDB_MODE is {mode!r}", remedy="choose online, offline or disabled", id="WANDB_MODE")
        return mode
    import wandb

    return "online" if wandb.login(prompt=False) else "offline"


def check_logger(settings: Mapping[str, Any]) -> None:
    """Raise `BadInput` for tags, names and ids that W&B refuses, by its own rules and its server's limit on names."""
    import wandb
    from wandb.errors import UsageError

    rules: Any = wandb.Settings
    for name, own in _CHECKED.items():
        value, place = settings.get(name), f"logger.wandb.{name}"
        try:
            rules(**{own: value})
        except (ValueError, UsageError) as error:
            causes: list[Any] = getattr(error, "errors", list)()
            said = causes[0]["msg"] if causes else str(error)
            raise BadInput(f"W&B refuses {value!r}: {said}", remedy=f"set {place}", id=place) from error
        if isinstance(value, str) and len(value) > _LONGEST_NAME:
            problem = f"{len(value)} characters, W&B takes {_LONGEST_NAME}"
            raise BadInput(problem, remedy=f"set {place} to a shorter one", id=place)


def describe(trainer: Any, config: DictConfig) -> None:
    """Log the composed config."""
    for run in _runs(trainer):
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
        run.config.update(content, allow_val_change=True)  # a resumed run may have another ckpt_path


def show(trainer: Any, stage: str, suites: Sequence[Suite], measured: Sequence[Sequence[Evaluation]]) -> None:
    """Log the results of each suite's systems (the trained model last) and example rankings of the model."""
    import wandb

    for run in _runs(trainer):
        everything = [evaluation for systems in measured for evaluation in systems]
        columns = result_columns(everything)
        results = [list(_result(stage, evaluation, columns)) for evaluation in everything]
        examples = [
            list(row) for suite, systems in zip(suites, measured, strict=True) for row in _examples(suite, systems)
        ]
        run.log({"results": wandb.Table(columns=[*columns], data=results)})
        run.log({"example rankings": wandb.Table(columns=list(EXAMPLE_COLUMNS), data=examples)})
        for systems in measured:
            for name, value in {**systems[-1].means, **systems[-1].costs}.items():
                run.summary[f"final/{stage}/{systems[-1].suite}/{name}"] = value


def finish(failed: bool) -> None:
    """End the current W&B run, if any; otherwise all jobs of a sweep would share one."""
    import wandb

    wandb.finish(exit_code=int(failed))


def _runs(trainer: Any) -> Iterator[Any]:
    from lightning.pytorch.loggers import WandbLogger

    if trainer.is_global_zero:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                yield logger.experiment


def result_columns(measured: Sequence[Evaluation]) -> list[str]:
    """Return the columns of the table of results: each suite's first metric, and costs."""
    metrics = dict.fromkeys(evaluation.objective for evaluation in measured)
    return ["stage", "suite", "system", *metrics, *_COSTS, "n_queries"]


def _result(stage: str, evaluation: Evaluation, columns: Sequence[str]) -> Iterator[Any]:
    values = {**evaluation.means, **evaluation.costs}
    yield from (stage, evaluation.suite, evaluation.system)
    yield from (values.get(column) for column in columns[3:-1])
    yield evaluation.n_queries


def _examples(suite: Suite, systems: Sequence[Evaluation]) -> Iterator[Sequence[Any]]:
    """Yield the top passages of the first queries, with their grades and first-stage ranks."""
    run, qrels = systems[-1].run, suite.qrels()
    for query_id in [id for id in suite.query_ids if run.get(id)][:_EXAMPLES]:
        before = {id: rank for rank, id in enumerate(rank_order(suite.first_stage_run[query_id]), start=1)}
        for rank, id in enumerate(rank_order(run[query_id])[:_DEPTH], start=1):
            text = suite.collection.passages[id].contents[:_CHARACTERS]
            query = suite.collection.queries[query_id].text
            yield suite.name, query, rank, before[id], qrels[query_id].get(id), text
