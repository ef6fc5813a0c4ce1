"""A Hydra callback: every run and sweep has an output folder of its own.

Folders are named after the second in which a command starts. If that name is taken, another one is used; a folder that
the command line names is locked, and refused while another process writes to it. Hydra calls this before it writes
.hydra/ to the folder. It only warns of exceptions in callbacks, so a refusal exits.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from perank.errors import BadInput, stop
from perank.files import file_lock

LOCK = ".perank.lock"
_OTHER_DEVICES = ("LOCAL_RANK", "RANK", "SLURM_PROCID")  # processes of one run share its folder


class OwnFolder(Callback):
    """Chooses and locks the output folder, until the command ends."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        self._take(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        self._take(config, "hydra.sweep.dir")

    def on_run_end(self, config: DictConfig, **_: Any) -> None:
        self._held.close()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        self._held.close()

    def _take(self, config: DictConfig, key: str) -> None:
        if any(name in os.environ for name in _OTHER_DEVICES):
            return
        asked, folder = config.hydra.overrides.hydra, Path(OmegaConf.select(config, key))
        with suppress(OSError):  # of the file system: Hydra's own attempt to write there says what is wrong
            try:
                free = folder if self._named(asked, key) and self._locked(folder) else self._free(folder)
            except BadInput as error:
                stop(error)
            if free != folder:
                with read_write(config), open_dict(config):
                    OmegaConf.update(config, key, str(free))
                    asked.append(f"{key}='{free}'")  # a sweep composes its jobs from the overrides

    @staticmethod
    def _named(overrides: Iterable[str], key: str) -> bool:
        return any(override.lstrip("+").startswith(f"{key}=") for override in overrides)

    def _free(self, folder: Path) -> Path:
        """Lock and return the first of `folder`, `folder`-2, `folder`-3, ... that is unused."""
        for number in count(1):
            path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            with suppress(BadInput):
                if self._locked(path) and {found.name for found in path.iterdir()} == {LOCK}:
                    return path
        raise AssertionError("count is endless")

    def _locked(self, folder: Path) -> bool:
        self._held.close()
        self._held.enter_context(file_lock(folder / LOCK, wait=False))
        return True
