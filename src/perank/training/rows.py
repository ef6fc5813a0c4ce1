"""Training rows of stage 2 and their JSONL files: ids and an order, no passage texts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeGuard

from perank.errors import BadInput
from perank.files import json_lines, write_json_lines
from perank.records import Passage, Query
from perank.sources import passages_by_id, text_in


@dataclass(frozen=True, slots=True)
class RankRow:
    """A query, its N candidates' ids, and the teacher's `order`: positions in `passage_ids`, best first.

    For anchored scores, `ranks` are the candidates' ranks in the query's whole first-stage list (from 0), and `first`
    its best passages' ids, best first, if they aren't all in the row; a passage outside the list ranks after its last.
    """

    query: Query
    passage_ids: tuple[str, ...]
    order: tuple[int, ...]
    ranks: tuple[int, ...] | None = None
    first: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ranks is not None and (len(self.ranks) != len(self.passage_ids) or min(self.ranks, default=0) < 0):
            raise ValueError(f"not {len(self.passage_ids)} ranks from 0: {self.ranks}")
        if sorted(self.order) != list(range(len(self.passage_ids))):
            raise ValueError(f"not a permutation of {len(self.passage_ids)} positions: {self.order}")

    def shown(self, candidates: Sequence[int]) -> RankRow:
        """Return the row with only these candidates, in this order; the teacher's order among them is kept."""
        place = {candidate: slot for slot, candidate in enumerate(candidates)}
        order = tuple(place[candidate] for candidate in self.order if candidate in place)
        ranks = None if self.ranks is None else tuple(self.ranks[candidate] for candidate in candidates)
        ids = tuple(self.passage_ids[candidate] for candidate in candidates)
        first = self.first if ranks is None or len(ids) == len(self.passage_ids) else tuple(self.best(len(self.order)))
        return RankRow(self.query, ids, order, ranks, first)

    def best(self, k: int) -> dict[str, int]:
        """Return the first stage's first k passages by id with their ranks: of `first`, or of the row's own."""
        own = sorted(zip(self.ranks or (), self.passage_ids, strict=True))
        return dict(islice(zip(self.first, count(), strict=False) if self.first else ((id, r) for r, id in own), k))


def shuffled(n: int, seed: int, position: int) -> list[int]:
    """Return a row's prompt order: a permutation of range(n) that depends only on seed and position."""
    order = list(range(n))
    random.Random(f"{seed}:{position}").shuffle(order)
    return order


def write_rows(path: str | Path, rows: Iterable[RankRow]) -> int:
    """Write one JSON object per row, atomically; return the number of rows."""
    return write_json_lines(path, map(row_record, rows))


def passages_of(passages: Mapping[str, Passage], ids: Sequence[str], **place: Any) -> tuple[Passage, ...]:
    """Return a row's passages. Raises `BadInput` with `place` (the row's path and line) if one is missing."""
    try:
        return passages_by_id(passages, ids)
    except KeyError as error:
        problem, remedy = (
            "the collection has no text for this passage",
            "use the collection that the rows were made from",
        )
        raise BadInput(problem, remedy=remedy, id=error.args[0], **place) from error


def check_ranks(rows: Iterable[RankRow]) -> None:
    """Raise `BadInput` for a row without ranks in the first stage."""
    for row in rows:
        if row.ranks is None:
            remedy = "prepare the rows again with perank.prepare, or draw them (data.rows_path=null)"
            raise BadInput("the row has no first-stage ranks, which the anchors need", remedy=remedy, id=row.query.id)


def row_record(row: RankRow) -> dict[str, object]:
    """Convert a row to the file's JSON object."""
    placed = {"ranks": row.ranks, "first": row.first or None}
    record = {"query_id": row.query.id, "query": row.query.text, "passages": row.passage_ids, "order": row.order}
    return {**record, **{key: value for key, value in placed.items() if value is not None}}


def read_rows(path: str | Path) -> list[RankRow]:
    """Read a file's rows. Raises `BadInput` with the line of an empty query or id, a repeated id or a wrong order."""
    return [_row(record, Path(path), number) for number, record in json_lines(path)]


def _row(record: dict[str, object], path: Path, line: int) -> RankRow:
    keys = ("query_id", "query", "passages", "order")
    if not set(keys) <= set(record) <= {*keys, "ranks", "first"}:
        raise BadInput(
            f"expected the fields {', '.join(keys)}, found {', '.join(map(str, record)) or 'none'}",
            remedy="prepare the rows with perank.prepare",
            path=path,
            line=line,
        )
    query_id = text_in(record, "query_id", path, line)
    query = text_in(record, "query", path, line, query_id)
    if not query_id.strip() or not query.strip():
        raise BadInput("the query has no id or no text", remedy="drop the row", path=path, line=line)
    passages, order = record["passages"], record["order"]
    if not isinstance(passages, list) or not passages or not all(isinstance(p, str) and p.strip() for p in passages):
        raise BadInput("passages is not a list of ids", remedy="prepare them again", path=path, line=line, id=query_id)
    if len(set(passages)) < len(passages):
        raise BadInput("a passage id occurs twice in the row", remedy="remove one", path=path, line=line, id=query_id)
    if not isinstance(order, list) or sorted(map(repr, order)) != sorted(map(repr, range(len(passages)))):
        problem = f"order is not a permutation of the {len(passages)} positions"
        raise BadInput(problem, remedy="prepare the rows again", path=path, line=line, id=query_id)
    ranks, first = record.get("ranks"), record.get("first", [])
    if ranks is not None and not _are_ranks(ranks, len(passages)):
        problem = f"ranks is not a list of {len(passages)} ranks from 0"
        raise BadInput(problem, remedy="prepare the rows again", path=path, line=line, id=query_id)
    if not isinstance(first, list) or not all(isinstance(p, str) and p.strip() for p in first):
        raise BadInput("first is not a list of ids", remedy="prepare them again", path=path, line=line, id=query_id)
    placed = None if ranks is None else tuple(ranks)
    return RankRow(Query(query_id, query), tuple(passages), tuple(order), placed, tuple(first))


def _are_ranks(values: object, count: int) -> TypeGuard[list[int]]:
    return isinstance(values, list) and len(values) == count and all(type(v) is int and v >= 0 for v in values)
