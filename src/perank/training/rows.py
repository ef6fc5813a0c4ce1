"""Training rows of stage 2 and their JSONL files: ids and an order, no passage texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import json_lines, write_json_lines
from perank.records import Passage, Query, passages_by_id
from perank.sources.fields import text_in


@dataclass(frozen=True, slots=True)
class RankRow:
    """A query, its N candidates' ids, and the teacher's `order`: positions in `passage_ids`, best first."""

    query: Query
    passage_ids: tuple[str, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.passage_ids))):
            raise ValueError(f"not a permutation of {len(self.passage_ids)} positions: {self.order}")

    def shown(self, candidates: Sequence[int]) -> RankRow:
        """Return the row with only these candidates, in this order; the teacher's order among them is kept."""
        place = {candidate: slot for slot, candidate in enumerate(candidates)}
        order = tuple(place[candidate] for candidate in self.order if candidate in place)
        return RankRow(self.query, tuple(self.passage_ids[candidate] for candidate in candidates), order)


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


def row_record(row: RankRow) -> dict[str, object]:
    """Convert a row to the file's JSON object."""
    return {"query_id": row.query.id, "query": row.query.text, "passages": row.passage_ids, "order": row.order}


def read_rows(path: str | Path) -> list[RankRow]:
    """Read a file's rows. Raises `BadInput` with the line of an empty query or id, a repeated id or a wrong order."""
    return [_row(record, Path(path), number) for number, record in json_lines(path)]


def _row(record: dict[str, object], path: Path, line: int) -> RankRow:
    keys = ("query_id", "query", "passages", "order")
    if set(record) != set(keys):
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
    return RankRow(Query(query_id, query), tuple(passages), tuple(order))
