"""Train PE-Rank: the projector alone (align), then projector and LLM together (rank).

Examples:
    python -m perank.train +experiment=align
    python -m perank.train +experiment=rank projector.path=outputs/align/<date>/<time>/projector.safetensors
    python -m perank.train +experiment=rank ckpt_path=outputs/rank/<date>/<time>    # resume an interrupted run
    python -m perank.train -m +experiment=rank seed=0,1,2 loss=embeddings,paper     # a sweep, under multirun/
    python -m perank.train --cfg job +experiment=rank scale=paper                   # show what would run
    python -m perank.train +experiment=rankmistral                                  # the LLM that reads texts

Writes checkpoints/, projector.safetensors, model/ (for `Reranker.from_pretrained`), metrics.json, and per-query scores
and runs of every suite to the output folder: hydra.run.dir, by default outputs/<task>/<date>/<time>.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from perank.app.alignment import aligned_projector
from perank.app.jobs import in_own_process, quiet_lightning, run, sweeping
from perank.errors import exits_cleanly
from perank.files import read_json


def train(config: DictConfig) -> dict[str, float]:
    """Train, save and evaluate a model; return each suite's first metric, by default NDCG@10.

    Raises `BadInput` for errors in the config, the data or the checkpoint.
    """
    from lightning import seed_everything

    from perank.app.training_run import TrainingRun, check_training

    check_training(config)
    if (path := aligned_projector(config)) is not None:
        config.projector.path = path
    quiet_lightning()
    seed_everything(config.seed, workers=True, verbose=False)
    with TrainingRun(config) as training:
        training.fit()
        return training.report()


@exits_cleanly
def main() -> None:
    """The command line; a sweeper receives the mean of a job's suites in their first metrics."""
    run("train", _objective)


def _objective(config: DictConfig) -> float | None:
    if sweeping() and config.trainer.devices != 1:
        # Lightning would start the other devices with this process's command line, which is that of the whole sweep.
        in_own_process("perank.train", Path(config.paths.output))
        scores = _measured(Path(config.paths.output)) if config.evaluate else []
    else:
        scores = list(train(config).values())
    return sum(scores) / len(scores) if scores else None


def _measured(output: Path) -> list[float]:
    entries = read_json(output / "metrics.json").values()
    trained = [entry for entry in entries if entry["system"] in ("PE-Rank", "PE-Rank+", "text listwise")]
    return [next(iter(entry["means"].values())) for entry in trained]


if __name__ == "__main__":
    main()
