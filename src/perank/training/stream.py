"""The stream of training rows, and a data module that resumes after the last completed step.

The order is a pure function of (seed, position): all epochs form one stream of positions 0, 1, 2, ..., and position p
is row `permutation(p // rows)[p % rows]`. So workers, devices and resumed processes compute their part independently.
The order doesn't depend on the number of workers; with W devices, step s over all devices reads the positions
[s * W * batch, (s + 1) * W * batch).
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

_SAME = "resume with the settings it was trained with"
_ANEW = "begin a new run with its weights: start=<the run's folder> instead of ckpt_path"
_REMEDIES = {
    "epochs": f"for more epochs {_ANEW}",
    "rows": f"for other rows {_ANEW}",
    **dict.fromkeys(("batch_size", "devices"), "resume with the same data.batch_size times trainer.devices"),
}


class RowStream(Sampler[int]):
    """Positions of this device, from `start` (counted over all devices) to `total`, a multiple of W * batch.

    `total` is `rows * epochs` without the positions that don't fill a last step on every device.
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
    """Return the row at a stream position; every epoch has its own permutation."""
    epoch, offset = divmod(position, rows)
    return _permutation(rows, seed, epoch)[offset]


class LengthGroups:
    """`row_at` with rows of similar length in each step, to reduce padding; `lengths` has one entry per row.

    The rows of `together` steps of `batch` rows are sorted by length, and the steps shuffled.
    """

    def __init__(self, lengths: Sequence[int], *, seed: int, batch: int, together: int) -> None:
        self.lengths, self.seed, self.batch, self.together = lengths, seed, batch, together
        self._epochs: dict[int, list[int]] = {}

    def row_at(self, position: int) -> int:
        """Return the row at a stream position; every epoch has its own permutation."""
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


@lru_cache(maxsize=2)  # called for every row of an epoch
def _permutation(rows: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(rows))
    random.Random(f"{seed}:{epoch}:rows").shuffle(order)
    return tuple(order)


class StreamExamples(Dataset[Any]):
    """Training examples by stream position, from a pure function."""

    def __init__(self, example: Callable[[int], Any]) -> None:
        self.example = example

    def __getitem__(self, position: int) -> Any:
        return self.example(position)


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """`batch_size` is per device and step. Raises `BadInput` for numbers that are too small."""

    batch_size: int
    epochs: int = 1
    seed: int = 0
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_least("data", 1, batch_size=self.batch_size, epochs=self.epochs)
        check_least("data", 0, num_workers=self.num_workers)


@dataclass(frozen=True, kw_only=True)
class GroupedSettings(StreamSettings):
    """Rows of `group_by_length` consecutive steps are grouped by length (1: no grouping)."""

    group_by_length: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("data", 1, group_by_length=self.group_by_length)


class StreamModule(lightning.LightningDataModule):
    """A LightningDataModule over a stream of rows; subclasses select rows and build examples and batches.

    Its state is the number of positions all devices have consumed, so `ckpt_path` resumes with the next row. `kept`
    are the rows of an epoch, `dropped` counts the skipped ones.
    """

    kept: Sequence[Any] = ()
    dropped = 0

    def __init__(self, settings: StreamSettings) -> None:
        super().__init__()
        self.batch_size, self.epochs, self.seed = settings.batch_size, settings.epochs, settings.seed
        self.num_workers, self._start = settings.num_workers, 0
        self._stream: RowStream | None = None

    def keep(self, rows: Sequence[Any], found: int, problem: str, remedy: str) -> None:
        """Use these rows out of `found` ones. Raises `BadInput` if there are none."""
        if not rows:
            raise BadInput(problem, remedy=remedy)
        self.kept, self.dropped = rows, found - len(rows)

    @property
    def rows(self) -> int:
        """Rows per epoch."""
        return len(self.kept)

    def example(self, position: int) -> Any:
        """Return the example at a stream position."""
        raise NotImplementedError

    def collate(self, examples: Sequence[Any]) -> Any:
        """Return a batch of examples."""
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader[Any]:
        """Return one loader over all epochs: Lightning counts one epoch, the logs count rows.

        Raises `BadInput` if there are too few rows for one step, or if `trainer.max_epochs` isn't 1.
        """
        if self.trainer is not None and self.trainer.max_epochs not in (None, 1, -1):
            problem = f"trainer.max_epochs is {self.trainer.max_epochs}, but all epochs are one stream of rows"
            raise BadInput(problem, remedy="leave it at 1 and set data.epochs", id="trainer.max_epochs")
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        stream = RowStream(self.rows, epochs=self.epochs, batch_size=self.batch_size, rank=rank, world=world)
        if stream.total == 0:
            problem = f"{self.rows} rows are fewer than one step of {self.batch_size} on each of {world} devices"
            raise BadInput(problem, remedy="use more rows, or lower data.batch_size", id="data.batch_size")
        stream.start, self._stream = self._start, stream
        return DataLoader(
            StreamExamples(self.example),
            batch_size=self.batch_size,
            sampler=stream,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            drop_last=True,
        )

    def state_dict(self) -> dict[str, int]:
        """Return the positions consumed by all devices, and the settings that define what a position is."""
        shape = self._shape()
        if self.trainer is None:
            return {"consumed": self._start, **shape}
        # Checkpoints are written before Lightning counts their last batch as completed.
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return {"consumed": progress.processed * self.batch_size * self.trainer.world_size, **shape}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue from the checkpoint's position. Raises `BadInput` if it belongs to another stream.

        Positions are those of all devices together, so another number of devices may resume with the same rows per
        step.
        """
        now, before = self._shape(), self._shape() | state_dict
        for shape in (now, before):
            shape["rows per step"] = shape["batch_size"] * shape["devices"]
        if now["rows per step"] == before["rows per step"]:
            before |= {name: now[name] for name in ("batch_size", "devices")}
        for name, value in now.items():
            if before[name] != value:
                problem = f"the checkpoint was trained with {name} {before[name]}, this run has {value}"
                raise BadInput(problem, remedy=_REMEDIES.get(name, _SAME), id=name)
        self._start = state_dict["consumed"]
        if self._stream is not None:  # sharded strategies restore after the loader was built
            self._stream.start = self._start

    def _shape(self) -> dict[str, int]:
        """The settings that the order of rows depends on."""
        return {
            "rows": self.rows,
            "epochs": self.epochs,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "devices": self.trainer.world_size if self.trainer else 1,
        }


class GroupedStream(StreamModule):
    """A stream of rows grouped by length over the steps of all devices: the order doesn't depend on their number."""

    def __init__(self, settings: GroupedSettings) -> None:
        super().__init__(settings)
        self._together, self._lengths = settings.group_by_length, list[int]()
        self._groups: dict[int, LengthGroups] = {}

    def keep_measured(self, rows: Sequence[Any], length: Callable[[Any], int | None], problem: str) -> None:
        """Use the rows that have a length, the tokens of their prompts. Raises `BadInput` if there are none."""
        lengths = {i: found for i, row in enumerate(rows) if (found := length(row)) is not None}
        self.keep([rows[i] for i in lengths], len(rows), problem, "raise prompt.max_length")
        self._lengths = list(lengths.values())

    @property
    def groups(self) -> LengthGroups:
        """The order of rows."""
        batch = self.batch_size * (self.trainer.world_size if self.trainer else 1)
        if batch not in self._groups:
            self._groups[batch] = LengthGroups(self._lengths, seed=self.seed, batch=batch, together=self._together)
        return self._groups[batch]

    def _shape(self) -> dict[str, int]:
        return {**super()._shape(), "group_by_length": self._together}
