"""What both stages' data modules share: a stream of rows that resumes where the last step ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from perank.data.order import RowStream


class Positions(Dataset[Any]):
    """Stream position -> training example, by a pure function."""

    def __init__(self, example: Callable[[int], Any]) -> None:
        self.example = example

    def __getitem__(self, position: int) -> Any:
        return self.example(position)


class StreamModule(lightning.LightningDataModule):
    """A LightningDataModule over the stream of `order.py`; subclasses say how many rows, and make examples and batches.

    `batch_size` is per device and step. Its state is the number of positions all devices have consumed, so
    `ckpt_path` goes on with the next row, not with the first.
    """

    def __init__(self, *, batch_size: int, epochs: int = 1, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size, self.epochs, self.seed, self.num_workers = batch_size, epochs, seed, num_workers
        self._start = 0

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
        """All epochs in one loader: Lightning counts one epoch, the logs count rows."""
        stream = RowStream(
            self.rows,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rank=self.trainer.global_rank if self.trainer else 0,
            world=self.trainer.world_size if self.trainer else 1,
        )
        stream.start = self._start
        return DataLoader(
            Positions(self.example),
            batch_size=self.batch_size,
            sampler=stream,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            drop_last=True,
        )

    def state_dict(self) -> dict[str, int]:
        """Positions consumed by finished batches, over all devices."""
        if self.trainer is None:
            return {"consumed": self._start}
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.completed
        return {"consumed": batches * self.batch_size * self.trainer.world_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Start where the checkpoint was written."""
        self._start = state_dict["consumed"]
