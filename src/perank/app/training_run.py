"""The steps of `perank.train`: fit, save, evaluate, report. The model is on disk before its evaluation begins."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from perank.app import wandb_tables
from perank.app.assembly import Assembly, TextAssembly
from perank.app.commands.again import evaluated_again
from perank.app.reading import ReadAssembly
from perank.app.settings import as_dict, check_keys, instantiate
from perank.errors import TERMINATED, BadInput, check_least
from perank.evaluation.callback import RankingEvaluation
from perank.model import full_state, projector_of, save_projector
from perank.reporting import save_report
from perank.training.checkpoints import resumed_from

log = logging.getLogger(__name__)

# Warnings of Lightning that don't apply here, with the reason.
_EXPECTED = (
    ".*in eval mode at the start of training.*",  # frozen parts; the stages set the modes of the others
    ".*your dataloader is not resumable.*",  # `perank.training.stream` resumes it
    ".*Previous log files in this directory will be deleted.*",  # `_keep` renames them
    ".*Checkpoint directory .* exists and is not empty.*",  # the run is resumed in its folder
    ".*The dirpath has changed from .*",  # the run is resumed in another folder
    ".*FSDP2-wrapped module .* returned a view tensor.*",  # no code changes it in place
    ".*isinstance.treespec, LeafSpec.*",  # from Lightning itself, with torch 2.13
)


def check_training(config: DictConfig) -> None:
    """Raise `BadInput` for bad settings that would otherwise fail late or not at all."""
    check_keys([config.stage.name], ("align", "rank", "listwise", "read"), "stage")
    if config.get("anchors") and config.stage.name != "rank":
        raise BadInput("only stage 2 has anchors", remedy="use +experiment=rank, or anchors=null", id="anchors")
    for name, least in {"accumulate_grad_batches": 1, "gradient_clip_val": 0}.items():  # Lightning accepts any value
        check_least("trainer", least, **{name: config.trainer.get(name)})


class TrainingRun:
    """A training run. On exit, the context manager ends the W&B run, so that each job of a sweep has its own.

    If it exits with an error after the model was saved, it logs the command that evaluates the model again.
    """

    def __init__(self, config: DictConfig) -> None:
        self.is_saved, self.began = False, time.process_time()
        self.config, self.output = config, Path(config.paths.output)
        self.shown = instantiate(config.report) if config.report else None  # what report.html shows
        kinds = {"listwise": TextAssembly, "read": ReadAssembly}
        self.assembly = kinds.get(config.stage.name, Assembly)(config)

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None and self.is_saved:
            log.error("the model is saved in %s; to evaluate it again: %s", *evaluated_again(self.output))
        if self.config.logger.get("wandb"):
            wandb_tables.finish(failed=kind is not None)

    @cached_property
    def trainer(self) -> Any:
        config = self.config
        named = {name: logger for name, logger in config.logger.items() if logger}
        if "wandb" in named:
            wandb_tables.check_logger(as_dict(named["wandb"]))
        modes = {"wandb": {"mode": wandb_tables.wandb_mode()}} if "wandb" in named else {}
        loggers = [instantiate(logger, **modes.get(name, {})) for name, logger in named.items()]
        callbacks = [instantiate(callback) for callback in config.callbacks.values() if callback]
        callbacks += [_Saving(self), *([self.evaluation] if config.evaluate else [])]
        return instantiate(config.trainer, logger=loggers, callbacks=callbacks)

    @cached_property
    def evaluation(self) -> RankingEvaluation:
        """The callback that evaluates the model on the suites."""
        return RankingEvaluation(
            self.assembly.suites,
            self.assembly.ranker,
            self.assembly.baselines,
            self.output,
            system=self.assembly.system,
            every_n_steps=self.config.evaluate_every,
        )

    def fit(self) -> None:
        """Train from the start or from a checkpoint, save and evaluate; a finished run is only evaluated again."""
        wandb_tables.describe(self.trainer, self.config)
        checkpoint = resumed_from(self.config.ckpt_path, self.output)
        _keep(self.output / "metrics.csv")
        stage, data = self.assembly.stage, self.assembly.data
        stage.began = self.began
        if data.dropped:
            total = data.dropped + data.rows
            log.warning("%d of %d rows left out: no text, one passage, or too long", data.dropped, total)
        if checkpoint is None:
            self.assembly.before_fit()
        try:
            with warnings.catch_warnings():
                for message in _EXPECTED:
                    warnings.filterwarnings("ignore", message)
                self.trainer.fit(stage, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except SIGTERMException as ended:
            raise SystemExit(TERMINATED) from ended
        except MisconfigurationException as error:
            raise BadInput(" ".join(str(error).split()), remedy="see conf/trainer", id="trainer") from error
        if not self.is_saved:  # nothing was left to train
            self.save()
            if self.config.evaluate:
                self.evaluation.finish(self.trainer)

    def save(self) -> None:
        """Save the model. Call it on every device: shards are gathered from all, and rank 0 writes."""
        self.assembly.after_fit()
        state, self.is_saved = full_state(self.assembly.model), not self.trainer.is_global_zero
        if self.is_saved:
            return
        own = {key.removeprefix("projector."): value for key, value in state.items() if key.startswith("projector.")}
        if self.config.stage.name != "listwise":
            path = self.output / "projector.safetensors"
            save_projector(projector_of(own, path=path), path)
        self.assembly.save(self.output / "model", state)
        self.is_saved = True

    def report(self) -> dict[str, float]:
        """Return each suite's first metric; print and log to W&B the comparison with first stage and encoder."""
        if not self.config.evaluate:
            return {}
        suites, results = self.assembly.suites, self.evaluation.results
        if self.trainer.is_global_zero:
            measured = [
                [*self.assembly.baselines(suite), result] for suite, result in zip(suites, results, strict=True)
            ]
            pairs, title = list(zip(suites, measured, strict=True)), f"Training: {self.assembly.system}"
            save_report(self.output, pairs, self.shown, OmegaConf.to_yaml(self.config), title)
            for *baselines, result in measured:
                sys.stdout.write(f"{result.verdict(baselines)}\n")
            if self.config.logger.get("wandb"):
                wandb_tables.show(self.trainer, self.config.stage.name, suites, measured)
        return {result.suite: result.means[result.objective] for result in results}


class _Saving(lightning.Callback):
    """Saves the model when training ends; callbacks after it in the list, such as the evaluation, come later."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.run.save()


def _keep(metrics: Path) -> None:
    """Rename the log of an interrupted run, which the CSV logger would delete."""
    if metrics.is_file():
        taken = len(list(metrics.parent.glob("metrics.*.csv")))
        metrics.rename(metrics.with_name(f"metrics.{taken + 1}.csv"))
