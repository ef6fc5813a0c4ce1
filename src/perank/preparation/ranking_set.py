"""Stage 2's training set as section 4.2 makes it: every training query's top candidates, in the order of a teacher.

Queries go in blocks. A block is searched, ranked by the teacher, measured against the prompt's length and kept as one
part (`parts.py`); a block depends on its own queries alone, so neither an interruption nor the order of blocks shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perank.errors import BadInput
from perank.preparation.resumable import Resumable
from perank.records import Candidates, Collection, FirstStage, Query, Ranker, Ranking
from perank.sources.candidates import make_candidates
from perank.training.rows import RankRow, row_record

Length = Callable[[Candidates], int]


@dataclass(frozen=True, kw_only=True)
class RankingSet:
    """How rows are made of a query's first `candidates` passages.

    `orders`: "shuffled" gives a row in a random prompt order of its own, "retrieved" one as the first stage ranks
    (section 4.2 augments by shuffling). `judged_first` puts relevant passages before the teacher's opinion; the paper
    takes the teacher's order as it is. Rows whose prompt with whole texts takes `max_tokens` or more are left out.
    Queries with fewer than `minimum` candidates give none. Both are counted.
    """

    candidates: int = 20
    orders: Sequence[str] = ("shuffled",)
    judged_first: bool = False
    max_tokens: int | None = 2048
    minimum: int = 2
    block: int = 2048
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.orders or not set(self.orders) <= {"shuffled", "retrieved"}:
            problem, remedy = f"no rows come of the orders {list(self.orders)}", "choose shuffled, retrieved or both"
            raise BadInput(problem, remedy=remedy, id="preparation.orders")
        for name, least in {"candidates": 2, "minimum": 2, "block": 1, "batch_size": 1}.items():
            if getattr(self, name) < least:
                problem = f"{name} is {getattr(self, name)}"
                raise BadInput(problem, remedy=f"use {least} or more", id=f"preparation.{name}")

    def build(
        self,
        collection: Collection,
        queries: Sequence[Query],
        first_stage: FirstStage,
        teacher: Ranker,
        parts: Resumable,
        length: Length | None = None,
        *,
        progress: bool = True,
    ) -> None:
        """Make the blocks that aren't there yet. `length` counts the tokens of a prompt with the candidates' texts."""
        from tqdm import tqdm

        starts = range(0, len(queries), self.block)
        with tqdm(total=len(queries), desc="prepare", unit="query", disable=not progress) as bar:
            for number, start in enumerate(starts):
                block, name = queries[start : start + self.block], f"rows-{number:05d}.json"
                if not parts.has(name):
                    entries = list(self._entries(collection, block, first_stage, teacher, length))
                    parts.write(name, {"queries": entries})
                bar.update(len(block))

    def _entries(
        self,
        collection: Collection,
        block: Sequence[Query],
        first_stage: FirstStage,
        teacher: Ranker,
        length: Length | None,
    ) -> Iterator[dict[str, Any]]:
        """What a part keeps of each query: its rows, and what the statistics are made of."""
        run = first_stage.search(collection, block, self.candidates)
        found = make_candidates(collection, run, self.candidates, query_ids=[query.id for query in block])
        enough = [candidates for candidates in found if len(candidates) >= self.minimum]
        ranked = {ranking.candidates.query.id: ranking for ranking in self._ranked(teacher, enough)}
        for candidates in found:
            entry: dict[str, Any] = {"query_id": candidates.query.id, "found": len(candidates), "rows": []}
            if (ranking := ranked.get(candidates.query.id)) is not None:
                entry |= self._judged(ranking, collection, length)
            yield entry

    def _ranked(self, teacher: Ranker, candidates: Sequence[Candidates]) -> Iterator[Ranking]:
        for start in range(0, len(candidates), self.batch_size):
            yield from teacher.rank_batch(candidates[start : start + self.batch_size])

    def _judged(self, ranking: Ranking, collection: Collection, length: Length | None) -> dict[str, Any]:
        grades = collection.qrels.get(ranking.candidates.query.id, {})
        ids = [passage.id for passage in ranking.candidates.passages]
        order = ranking.order
        if self.judged_first:
            order = tuple(sorted(order, key=lambda i: -grades.get(ids[i], 0)))
        tokens = None if length is None or self.max_tokens is None else length(ranking.candidates)
        fits = tokens is None or self.max_tokens is None or tokens < self.max_tokens
        return {
            "tokens": tokens,
            "order": list(order),
            "relevant": [i for i, id in enumerate(ids) if grades.get(id, 0) > 0],
            "rows": [row_record(row) for row in self._rows(ranking.candidates.query, ids, order)] if fits else [],
        }

    def _rows(self, query: Query, ids: Sequence[str], order: Sequence[int]) -> Iterator[RankRow]:
        for kind in self.orders:
            shown = list(range(len(ids)))
            if kind == "shuffled":
                random.Random(f"{self.seed}:{query.id}").shuffle(shown)
            place = {position: slot for slot, position in enumerate(shown)}
            yield RankRow(query, tuple(ids[i] for i in shown), tuple(place[i] for i in order))


def sampled(queries: Iterable[Query], limit: int | None, seed: int) -> list[Query]:
    """All queries, or `limit` of them by a hash of their ids, in the collection's order."""
    import hashlib

    asked = list(queries)
    if limit is None or limit >= len(asked):
        return asked
    if limit < 1:
        raise BadInput(f"the limit is {limit}", remedy="use 1 or more, or null for all", id="preparation.limit")
    digests = {query.id: hashlib.sha256(f"{seed}:{query.id}".encode()).digest() for query in asked}
    kept = set(sorted(digests, key=digests.__getitem__)[:limit])
    return [query for query in asked if query.id in kept]
