"""The training set of stage 2 (section 4.2): the top candidates of every training query, in the order of a teacher.

Queries are processed in blocks: a block is searched, ordered by the teacher, filtered by prompt length and saved as a
part. It depends only on its own queries, so interruptions don't change the result.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perank.errors import BadInput, check_distinct, check_least
from perank.files import write_json_lines
from perank.preparation.drawn_rows import RowSources, ordered_row
from perank.preparation.resumable import Resumable
from perank.preparation.set_statistics import RankingStatistics, counted
from perank.preparation.teachers import Teacher, teacher_orders
from perank.records import Candidates, Query
from perank.sources import make_candidates
from perank.training.rows import RankRow, row_record

Lengths = Callable[[Sequence[Candidates]], list[int]]


@dataclass(frozen=True, kw_only=True)
class RankingSet:
    """Settings of the rows, which have a query's top `candidates` passages.

    `orders`: "shuffled" gives a row in random prompt order, "retrieved" one in first-stage order (section 4.2 augments
    by shuffling). `judged_first` ranks relevant passages above the others; the paper uses the teacher's order alone.
    Rows whose prompt with full texts has `max_tokens` or more, and queries with fewer than `minimum` candidates, are
    omitted and counted.
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
            problem, remedy = f"unknown or missing orders {list(self.orders)}", "choose shuffled, retrieved or both"
            raise BadInput(problem, remedy=remedy, id="preparation.orders")
        check_distinct("preparation.orders", self.orders)
        check_least("preparation", 2, candidates=self.candidates, minimum=self.minimum)
        check_least("preparation", 1, block=self.block, batch_size=self.batch_size, max_tokens=self.max_tokens)

    def make(
        self,
        sources: RowSources,
        teacher: Teacher,
        queries: Sequence[Query],
        parts: Resumable,
        lengths: Lengths | None = None,
        *,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Create the missing blocks, join all to the output, and return its statistics.

        `lengths` counts the tokens of a prompt with the candidates' texts for each of several queries.
        """
        from tqdm import tqdm

        starts = range(0, len(queries), self.block)
        with tqdm(total=len(queries), desc="prepare", unit="query", disable=not progress) as bar:
            for number, start in enumerate(starts):
                block, name = queries[start : start + self.block], f"rows-{number:05d}.json"
                if not parts.has(name):
                    parts.write(name, {"queries": list(self._entries(sources, teacher, block, lengths))})
                bar.update(len(block))
        statistics = RankingStatistics()
        entries = (entry for part in parts.read("rows-") for entry in part["queries"])
        write_json_lines(parts.output, counted(entries, statistics))
        return statistics.as_dict()

    def _entries(
        self, sources: RowSources, teacher: Teacher, block: Sequence[Query], lengths: Lengths | None
    ) -> Iterator[dict[str, Any]]:
        """Yield a record per query: its rows, and values for the statistics."""
        run = sources.first_stage.search(sources.collection, block, self.candidates)
        ids = [query.id for query in block]
        found = make_candidates(sources.collection, run, self.candidates, query_ids=ids)
        enough = [candidates for candidates in found if len(candidates) >= self.minimum]
        judged = sources.collection.qrels
        ordered = teacher_orders(teacher, enough, sources, judged if self.judged_first else {}, self.batch_size)
        orders = {candidates.query.id: order for candidates, order in ordered}
        tokens = self._tokens(enough, lengths)
        for candidates in found:
            id = candidates.query.id
            entry: dict[str, Any] = {"query_id": id, "found": len(candidates), "rows": []}
            if (order := orders.get(id)) is not None:
                entry |= self._ordered(candidates, order, judged.get(id, {}), tokens.get(id))
            yield entry

    def _tokens(self, found: Sequence[Candidates], lengths: Lengths | None) -> dict[str, int]:
        """Tokens of a prompt by query id, `batch_size` queries at a time; none without `lengths`."""
        tokens: dict[str, int] = {}
        if lengths is None:
            return tokens
        for start in range(0, len(found), self.batch_size):
            batch = found[start : start + self.batch_size]
            tokens |= zip((candidates.query.id for candidates in batch), lengths(batch), strict=True)
        return tokens

    def _ordered(
        self, candidates: Candidates, order: tuple[int, ...], grades: dict[str, int], tokens: int | None
    ) -> dict[str, Any]:
        fits = tokens is None or self.max_tokens is None or tokens < self.max_tokens
        return {
            "tokens": tokens,
            "order": list(order),
            "relevant": [i for i, passage in enumerate(candidates.passages) if grades.get(passage.id, 0) > 0],
            "rows": [row_record(row) for row in self._rows(ordered_row(candidates, order))] if fits else [],
        }

    def _rows(self, row: RankRow) -> Iterator[RankRow]:
        for kind in self.orders:
            shown = list(range(len(row.order)))
            if kind == "shuffled":
                random.Random(f"{self.seed}:{row.query.id}").shuffle(shown)
            yield replace(row, ranks=tuple(range(len(shown)))).shown(shown)


def prompt_lengths(prompts: Any) -> Lengths:
    """Return a function that counts the tokens of prompts with the candidates' texts."""

    def lengths(batch: Sequence[Candidates]) -> list[int]:
        rows = [(found.query.text, [passage.contents for passage in found.passages]) for found in batch]
        counts: list[int] = prompts.lengths_with_text(rows)
        return counts

    return lengths


def sampled(queries: Iterable[Query], limit: int | None, seed: int) -> list[Query]:
    """Return all queries, or `limit` of them by a hash of their ids, in the collection's order."""
    asked = list(queries)
    check_least("preparation", 1, limit=limit)
    if limit is None or limit >= len(asked):
        return asked
    digests = {query.id: hashlib.sha256(f"{seed}:{query.id}".encode()).digest() for query in asked}
    kept = set(sorted(digests, key=digests.__getitem__)[:limit])
    return [query for query in asked if query.id in kept]
