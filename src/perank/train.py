"""Train PE-Rank: the projector alone (align), then projector and LLM together (rank).

Examples:
    python -m perank.train +experiment=align
    python -m perank.train +experiment=rank projector.path=outputs/align/<date>/<time>/projector.safetensors
    python -m perank.train +experiment=rank ckpt_path=outputs/rank/<date>/<time>    # resume an interrupted run
    python -m perank.train -m +experiment=rank seed=0,1,2 loss=embeddings,paper     # a sweep, under multirun/
    python -m perank.train --cfg job +experiment=rank scale=paper                   # show what would run
    python -m perank.train +experiment=rankmistral                                  # the LLM that reads texts

Writes checkpoints/, projector.safetensors, model/ (for `Reranker.from_pretrained`), and metrics.json with per-query
scores and runs of every suite into the output folder, outputs/<task>/<date>/<time> unless hydra.run.dir names one.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from perank.app import wandb_tables as board
from perank.app.alignment import aligned_projector
from perank.app.console import quiet_lightning
from perank.app.jobs import in_own_process, run, sweeping
from perank.app.settings import check_keys, check_type
from perank.errors import TERMINATED, BadInput, exits_cleanly
from perank.files import read_json

log = logging.getLogger(__name__)


def train(config: DictConfig) -> dict[str, float]:
    """Seed, assemble, fit, save, evaluate. Returns NDCG@10 by suite.

    Raises `BadInput` for whatever config, data and checkpoint are to blame for.
    """
    from lightning import seed_everything

    from perank.app.assembly import Assembly
    from perank.app.text_assembly import TextAssembly

    _check(config)
    if (path := aligned_projector(config)) is not None:
        config.projector.path = path
    quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    assembly = TextAssembly(config) if config.stage.name == "listwise" else Assembly(config)
    failed = True
    try:
        board.describe(assembly.trainer, config)
        _fit(assembly)
        _save(assembly)
        _show(assembly)
        failed = False
    finally:
        assembly.close(failed=failed)
    if not config.evaluate:
        return {}
    if assembly.trainer.is_global_zero:
        _tell(assembly)
    return {result.suite: result.means["ndcg@10"] for result in assembly.evaluation.results}


def _check(config: DictConfig) -> None:
    for key, kind in {"seed": int, "evaluate": bool, "evaluate_every": int | None, "ckpt_path": str | None}.items():
        check_type(config[key], kind, key)
    check_keys([config.stage.name], ("align", "rank", "listwise"), "stage")
    for name, least in {"accumulate_grad_batches": 1, "gradient_clip_val": 0}.items():  # Lightning takes any
        if (value := config.trainer.get(name)) is not None and not value >= least:
            raise BadInput(f"{name} is {value}", remedy=f"use {least} or more", id=f"trainer.{name}")
    if not 0 <= config.seed < 2**32:
        raise BadInput(f"the seed is {config.seed}", remedy="choose one from 0 to 4294967295", id="seed")


def _fit(assembly: Any) -> None:
    """Train from the start or from a checkpoint; a finished run that is resumed is only evaluated again."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    output = Path(assembly.config.paths.output)
    checkpoint = resumed_from(assembly.config.ckpt_path, output)
    _keep(output / "metrics.csv")
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message)
            assembly.trainer.fit(assembly.stage, datamodule=assembly.data, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException as ended:
        raise SystemExit(TERMINATED) from ended
    except MisconfigurationException as error:
        raise BadInput(" ".join(str(error).split()), remedy="see conf/trainer", id="trainer") from error
    if assembly.config.evaluate and not assembly.evaluation.results:
        assembly.evaluation.finish(assembly.trainer)


def _save(assembly: Any) -> None:
    """Every device calls it, the first one writes: where the model is in shards they have to be put together."""
    from perank.model.projector_io import projector_of, save_projector
    from perank.model.sharding import full_state

    output = Path(assembly.config.paths.output)
    state = full_state(assembly.model)
    if not assembly.trainer.is_global_zero:
        return
    own = {key.removeprefix("projector."): value for key, value in state.items() if key.startswith("projector.")}
    if assembly.config.stage.name != "listwise":
        path = output / "projector.safetensors"
        save_projector(projector_of(own, path=path), path)
    assembly.save(output / "model", state)


def _tell(assembly: Any) -> None:
    """How the model compares with the first stage and with the encoder, for whoever started the run."""
    for suite, result in zip(assembly.suites, assembly.evaluation.results, strict=True):
        sys.stdout.write(f"{result.verdict(assembly.baselines(suite))}\n")


def _show(assembly: Any) -> None:
    if assembly.config.evaluate and assembly.config.logger.get("wandb") and assembly.trainer.is_global_zero:
        found = zip(assembly.suites, assembly.evaluation.results, strict=True)
        measured = [[*assembly.baselines(suite), result] for suite, result in found]
        board.show(assembly.trainer, assembly.config.stage.name, assembly.suites, measured)


def resumed_from(path: str | None, output: Path) -> Path | None:
    """The checkpoint that `ckpt_path` names: a file, or the newest readable one of a run's folder.

    The run's own folder may be empty still, so that one command starts a run and takes it up again.
    Raises `BadInput` for a path that isn't there and a folder of another run without checkpoints.
    """
    from perank.training.checkpoints import is_folder_checkpoint, newest_checkpoint

    if path is None or not Path(path).is_dir() or is_folder_checkpoint(path):
        return None if path is None else Path(path)

    found = newest_checkpoint(path)
    if found is None and Path(path).resolve() != output.resolve():
        raise BadInput("there is no checkpoint in this folder", remedy="name a run's output folder", path=path)
    log.info("resuming from %s", found) if found else log.info("no checkpoint in %s yet: starting", path)
    return found


def _keep(metrics: Path) -> None:
    """Put a log that an interrupted run left out of the way: the CSV logger would delete it."""
    if metrics.is_file():
        taken = len(list(metrics.parent.glob("metrics.*.csv")))
        metrics.rename(metrics.with_name(f"metrics.{taken + 1}.csv"))


# What Lightning warns of here is as it should be.
_EXPECTED = (
    ".*in eval mode at the start of training.*",  # the frozen part; stages set the modes of the others
    ".*your dataloader is not resumable.*",  # `perank.training.stream` resumes it
    ".*Previous log files in this directory will be deleted.*",  # there are none any more
    ".*Checkpoint directory .* exists and is not empty.*",  # a run that is resumed where it was
    ".*The dirpath has changed from .*",  # or somewhere else
    ".*FSDP2-wrapped module .* returned a view tensor.*",  # nothing here changes it in place
    ".*isinstance.treespec, LeafSpec.*",  # Lightning's own, on torch 2.13
)


@exits_cleanly
def main() -> None:
    """The command line; a sweep gets the mean NDCG@10 of a job's suites."""
    run("train", _objective)


def _objective(config: DictConfig) -> float | None:
    if sweeping() and config.trainer.devices != 1:
        # Lightning starts the other devices with the command line of this process, which is the sweep's.
        in_own_process("perank.train", Path(config.paths.output))
        scores = _measured(Path(config.paths.output)) if config.evaluate else []
    else:
        scores = list(train(config).values())
    return sum(scores) / len(scores) if scores else None


def _measured(output: Path) -> list[float]:
    entries = read_json(output / "metrics.json").values()
    return [entry["means"]["ndcg@10"] for entry in entries if entry["system"] in ("PE-Rank", "text listwise")]


if __name__ == "__main__":
    main()
