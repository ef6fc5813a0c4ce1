"""Stage 1 on demand: train the projector that a stage-2 run starts from, once per alignment config.

The rows of a study differ in stage 2 and share their alignment. The first run trains it in a separate process;
concurrent and later runs wait for it and read the result from the cache. An interrupted alignment resumes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from perank.app.jobs import in_own_process
from perank.app.settings import as_dict
from perank.files import CONF_DIR, cache_dir, file_lock

log = logging.getLogger(__name__)


def aligned_projector(config: DictConfig) -> str | None:
    """Return the projector file for `config.alignment`, training it if needed; None if it is off or a path is given.

    Raises `BadInput` if `perank.train` rejects the alignment's settings.
    """
    if not config.alignment.first or config.projector.path is not None:
        return None
    settings = as_dict(config.alignment)
    overrides = [*settings["overrides"], *settings["more"], "evaluate=false"]
    folder = cache_dir() / "aligned" / _digest(overrides)
    projector = folder / "projector.safetensors"
    with file_lock(folder.parent / f".{folder.name}.lock"):
        if not projector.is_file():
            log.info("aligning first, into %s: %s", folder, " ".join(overrides))
            in_own_process("perank.train", folder, [*overrides, f'ckpt_path="{folder}"'])
    return str(projector)


def _digest(overrides: list[str]) -> str:
    """Hash the composed config, so that a changed file in conf/ leads to a new alignment."""
    if GlobalHydra.instance().is_initialized():
        config = compose("train", overrides=overrides)
    else:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose("train", overrides=overrides)
    content = json.dumps([OmegaConf.to_container(config, resolve=False), _places()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _places() -> list[str]:
    """Values of the environment variables that the unresolved paths refer to."""
    return [str(Path(os.environ.get(name, "")).resolve()) for name in ("PERANK_SHARED", "PERANK_DATA")]
