"""Train one stage: `python -m perank.train +experiment=align`, then `+experiment=rank projector.path=...`.

`+experiment=rankmistral` trains the LLM that reads texts instead, on the same rows.

Leaves in the output folder: checkpoints/, projector.safetensors, model/ (stage 2: what `Reranker.from_pretrained`
reads), and metrics.json with per-query scores and runs for every suite. An interrupted run resumes with the same
command and `ckpt_path=<run folder>`; with hydra.run.dir=<run folder> too it resumes in the same place.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from perank.app.alignment import aligned_projector
from perank.app.jobs import in_own_process, run, sweeping
from perank.errors import exits_cleanly
from perank.files import read_json


def train(config: DictConfig) -> dict[str, float]:
    """Seed, assemble, fit, save, report. Returns NDCG@10 by suite.

    Raises `BadInput` for whatever config, data and checkpoint are to blame for.
    """
    from lightning import seed_everything

    from perank.app.training_run import TrainingRun, check_training

    check_training(config)
    if (path := aligned_projector(config)) is not None:
        config.projector.path = path
    seed_everything(config.seed, workers=True, verbose=False)
    with TrainingRun(config) as training:
        training.fit()
        training.save()
        return training.report()


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
