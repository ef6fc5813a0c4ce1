"""A training run that ends in time: a last checkpoint, then the way out of a run that was told to terminate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Deadline(lightning.Callback):
    """End training `seconds` after the callback was created; repeating the command resumes the run."""

    def __init__(self, *, seconds: float, folder: str) -> None:
        self.ends, self.folder = time.monotonic() + seconds, Path(folder)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Save after the step that reaches the deadline."""
        if time.monotonic() > self.ends:
            trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:06d}.ckpt")
            raise SIGTERMException
