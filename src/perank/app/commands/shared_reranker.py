"""A reranker that several processes share: the first reads queries and writes rankings; all rank a part of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from perank.records import Candidates, Ranker, Ranking

_Part = list[Ranking] | Exception


@dataclass(frozen=True, slots=True)
class SharedReranker:
    """Rank with all processes: the first calls `rank_batch` and finally `close`; the others call `serve`.

    Each process ranks `batch_size` consecutive queries at a time, the same ones that a single process would rank
    together, so that the number of processes changes no ranking, not even by rounding. `load` returns a process's own
    reranker; `fabric` is a launched Lightning Fabric.
    """

    load: Callable[[], Ranker]
    fabric: Any
    batch_size: int

    @property
    def together(self) -> int:
        """Queries per call of `rank_batch`."""
        return self.batch_size * int(self.fabric.world_size)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return a ranking per query, in order. Raises the first error of any process."""
        parts = self._share(self.fabric.broadcast(list(batch)))
        for part in parts:
            if isinstance(part, Exception):
                raise part
        return [ranking for part in parts if isinstance(part, list) for ranking in part]

    def serve(self) -> None:
        """Rank parts of the first process's batches until it calls `close`."""
        while (batch := self.fabric.broadcast(None)) is not None:
            self._share(batch)

    def close(self) -> None:
        """Stop the other processes."""
        self.fabric.broadcast(None)

    def _share(self, batch: list[Candidates]) -> list[_Part]:
        """Return the parts of all processes, in order; on all but the first, nothing."""
        from torch.distributed import gather_object

        first = self.fabric.global_rank * self.batch_size
        mine = self._ranked(batch[first : first + self.batch_size])
        parts: list[Any] | None = [None] * self.fabric.world_size if self.fabric.is_global_zero else None
        gather_object(mine, parts)
        return parts or []

    def _ranked(self, batch: list[Candidates]) -> _Part:
        try:
            return self.load().rank_batch(batch) if batch else []
        except Exception as error:  # the others wait for this process's part
            return error
