"""The stream of training rows: which row is trained on when, and a data module that resumes where the last step ended.

The order is a pure function of (seed, position), so any run can stop and resume. All epochs form one stream of
positions 0, 1, 2, ...: position p is row `permutation(p // rows)[p % rows]`. A worker, a device or a resumed process
computes its part without having seen the rest. Nothing here depends on the number of workers; with W devices, step s of
all devices together reads the positions [s * W * batch, (s + 1) * W * batch).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset, Sampler

from perank.errors import BadInput, check_least


class RowStream(Sampler[int]):
    """Positions of this device, from `start` (counted over all devices) to `total`, a multiple of W * batch.

    What doesn't fill a last step on every device is left out; `rows * epochs` says how much there is.
    """

    def __init__(self, rows: int, *, epochs: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        step = batch_size * world
        self.total = rows * epochs // step * step
        self.batch_size, self.rank, self.world, self.start = batch_size, rank, world, 0

    def __len__(self) -> int:
        return self.total // self.world

    def __iter__(self) -> Iterator[int]:
        for first in range(self.start, self.total, self.batch_size * self.world):
            begin = first + self.rank * self.batch_size
            yield from range(begin, begin + self.batch_size)


def row_at(position: int, rows: int, seed: int) -> int:
    """The row at a position of the stream: every epoch is its own permutation."""
    epoch, offset = divmod(position, rows)
    return _permutation(rows, seed, epoch)[offset]


class LengthGroups:
    """`row_at` with rows of similar length in one step: `together` steps of `batch` rows are sorted and shuffled.

    Padding, not text, is most of a short prompt's batch otherwise. `lengths` has one entry a row.
    """

    def __init__(self, lengths: Sequence[int], *, seed: int, batch: int, together: int) -> None:
        self.lengths, self.seed, self.batch, self.together = lengths, seed, batch, together
        self._epochs: dict[int, list[int]] = {}

    def row_at(self, position: int) -> int:
        """The row at a position of the stream: every epoch is a permutation of its own."""
        epoch, offset = divmod(position, len(self.lengths))
        if epoch not in self._epochs:
            self._epochs = {epoch: self._grouped(epoch)}
        return self._epochs[epoch][offset]

    def _grouped(self, epoch: int) -> list[int]:
        order, size = _permutation(len(self.lengths), self.seed, epoch), self.batch * self.together
        if self.together == 1:
            return list(order)
        grouped: list[int] = []
        for start in range(0, len(order), size):
            rows = sorted(order[start : start + size], key=lambda row: self.lengths[row])
            whole = len(rows) - len(rows) % self.batch  # a last, smaller batch stays last
            batches = [rows[i : i + self.batch] for i in range(0, whole, self.batch)]
            random.Random(f"{self.seed}:{epoch}:{start}").shuffle(batches)
            grouped += [row for batch in batches for row in batch] + rows[whole:]
        return grouped


def shuffled(n: int, seed: int, position: int) -> list[int]:
    """A permutation of range(n) that depends on the seed and the position alone: the row's prompt order."""
    order = list(range(n))
    random.Random(f"{seed}:{position}").shuffle(order)
    return order


@lru_cache(maxsize=2)  # one epoch's permutation is asked for again and again
def _permutation(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}:rows").shuffle(order)
    return tuple(order)


class StreamExamples(Dataset[Any]):
    """Stream position -> training example, by a pure function."""

    def __init__(self, example: Callable[[int], Any]) -> None:
        self.example = example

    def __getitem__(self, position: int) -> Any:
        return self.example(position)


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """`batch_size` is per device and step. Raises `BadInput` for numbers below what makes sense."""

    batch_size: int
    epochs: int = 1
    seed: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_least("data", 1, batch_size=self.batch_size, epochs=self.epochs)
        check_least("data", 0, num_workers=self.num_workers)


class StreamModule(lightning.LightningDataModule):
    """A LightningDataModule over a stream of rows; subclasses say which rows, and make examples and batches.

    Its state is the number of positions all devices have consumed, so `ckpt_path` resumes with the next row, not with
    the first. `kept` are the rows of an epoch, `dropped` counts those that were left out.
    """

    kept: Sequence[Any] = ()
    dropped = 0

    def __init__(self, settings: StreamSettings) -> None:
        super().__init__()
        self.batch_size, self.epochs, self.seed = settings.batch_size, settings.epochs, settings.seed
        self.num_workers = settings.num_workers
        self._start = 0
        self._stream: RowStream | None = None

    def keep(self, rows: Sequence[Any], found: int, problem: str, remedy: str) -> None:
        """Take these rows of those that were `found`. Raises `BadInput` for none."""
        if not rows:
            raise BadInput(problem, remedy=remedy)
        self.kept, self.dropped = rows, found - len(rows)

    @property
    def rows(self) -> int:
        """How many rows an epoch has."""
        return len(self.kept)

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
            StreamExamples(self.example),
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
        if self._stream is not None:  # sharded strategies restore after the loader was built
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
