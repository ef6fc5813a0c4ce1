"""Read a training run's folder: its config, its checkpoints, and the model at one of them."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from perank.app.assembly import Assembly
from perank.app.commands.renamed import check_run_config
from perank.errors import BadInput


def run_config(folder: str | Path) -> DictConfig:
    """Load the config of a run. Raises `BadInput` if there is none, or an earlier version wrote it."""
    path = Path(folder) / ".hydra" / "config.yaml"
    if not path.is_file():
        raise BadInput("no .hydra/config.yaml", remedy="name the output folder of a perank.train run", path=folder)
    try:
        config = OmegaConf.load(path)
    except Exception as error:  # of the file system, YAML or OmegaConf
        said = " ".join(str(error).split())
        raise BadInput(f"can't be read: {said}", remedy="train again, or restore the file", path=path) from error
    if not isinstance(config, DictConfig) or "paths" not in config:
        raise BadInput("not the config of a run", remedy="train again, or restore the file", path=path)
    if config.get("residual") == 0:  # of earlier versions: without effect, now anchors=null
        del config["residual"]
    check_run_config(config, path)
    config.paths.output = str(folder)
    return config


def checkpoints(folder: str | Path) -> list[Path]:
    """Return the run's numbered checkpoints by step, then last.ckpt if it exists."""
    found = sorted((Path(folder) / "checkpoints").glob("step[-=]*.ckpt"), key=lambda path: int(path.stem[5:]))
    last = Path(folder) / "checkpoints" / "last.ckpt"
    return [*found, *([last] if last.is_file() else [])]


def assembled_at(folder: str | Path, checkpoint: str | Path) -> Assembly:
    """Build the run's parts with the trained weights of `checkpoint`, without fitting the projector again."""
    config = run_config(folder)
    config.start = str(checkpoint)
    return Assembly(config)
