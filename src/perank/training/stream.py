"""What both stages' data modules share: a stream of rows that resumes where the last step ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from perank.errors import BadInput
from perank.training.order import RowStream


class Positions(Dataset[Any]):
    """Stream position -> training example, by a pure function."""

    def __init__(self, example: Callable[[int], Any]) -> None:
        self.example = example

    def __getitem__(self, position: int) -> Any:
        return self.example(position)


class StreamModule(lightning.LightningDataModule):
    """A LightningDataModule over the stream of `order.py`; subclasses say how many rows, and make examples and batches.

    `batch_size` is per device and step. Its state is the number of positions all devices have consumed, so
    `ckpt_path` goes on with the next row, not with the first. `dropped` counts what was left out of the stream.
    Raises `BadInput` for numbers below what makes sense.
    """

    dropped = 0

    def __init__(self, *, batch_size: int, epochs: int = 1, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("epochs", epochs, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise BadInput(f"{name} is {value}", remedy=f"use {least} or more", id=f"data.{name}")
        self.batch_size, self.epochs, self.seed, self.num_workers = batch_size, epochs, seed, num_workers
        self._start = 0
        self._stream: RowStream | None = None

    @property
    def rows(self) -> int:
        """How many rows an epoch has."""
        raise NotImplementedError

    def example(self, position: int) -> Any:
        """The example at a stream position."""
        raise NotImplementedError

    def collate(self, examples: Sequence[Any]) -> Any:
        """A batch of examples."""
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader[Any]:
        """All epochs in one loader: Lightning counts one epoch, the logs count rows.

        Raises `BadInput` where there are not enough rows for one step, and for a trainer that counts epochs itself.
        """
        if self.trainer is not None and self.trainer.max_epochs not in (None, 1, -1):
            problem = f"trainer.max_epochs is {self.trainer.max_epochs}, but all epochs are one stream of rows"
            raise BadInput(problem, remedy="leave it at 1 and set data.epochs", id="trainer.max_epochs")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        stream = RowStream(self.rows, epochs=self.epochs, batch_size=self.batch_size, rank=rank, world=world)
        if stream.total == 0:
            problem = f"{self.rows} rows are fewer than one step of {self.batch_size} on each of {world} devices"
            raise BadInput(problem, remedy="use more rows, or lower data.batch_size", id="data.batch_size")
        stream.start = self._start
        self._stream = stream
        return DataLoader(
            Positions(self.example),
            batch_size=self.batch_size,
            sampler=stream,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            drop_last=True,
        )

    def state_dict(self) -> dict[str, int]:
        """Positions consumed by processed batches, over all devices, and what a position means."""
        shape = self._shape()
        if self.trainer is None:
            return {"consumed": self._start, **shape}
        # Checkpoints are written before Lightning counts their last batch as completed.
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return {"consumed": progress.processed * self.batch_size * self.trainer.world_size, **shape}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start where the checkpoint was written. Raises `BadInput` where its positions are not this stream's."""
        for name, value in self._shape().items():
            if state_dict.get(name, value) != value:
                problem = f"the checkpoint was trained with {name} {state_dict[name]}, now it is {value}"
                raise BadInput(problem, remedy="resume with the settings it was trained with", id=name)
        self._start = state_dict["consumed"]
        if self._stream is not None:  # sharded strategies restore when the loader is there already
            self._stream.start = self._start

    def _shape(self) -> dict[str, int]:
        """What the order of rows depends on."""
        return {
            "rows": self.rows,
            "epochs": self.epochs,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "devices": self.trainer.world_size if self.trainer else 1,
        }
