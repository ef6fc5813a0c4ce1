"""Which row is trained on when: a pure function of (seed, position), so any run can stop and go on where it was.

All epochs form one stream of positions 0, 1, 2, ...: position p is row `permutation(p // rows)[p % rows]`. A worker,
a device or a resumed process computes its part without having seen the rest. Nothing here depends on the number of
workers; with W devices, step s of all devices together reads the positions [s * W * batch, (s + 1) * W * batch).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

from torch.utils.data import Sampler


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
    """The row that stands at a position of the stream: every epoch is a permutation of its own."""
    epoch, offset = divmod(position, rows)
    return _permutation(rows, seed, epoch)[offset]


class LengthGroups:
    """`row_at` with rows of similar length in one step: `together` steps of `batch` rows are sorted and dealt out anew.

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
