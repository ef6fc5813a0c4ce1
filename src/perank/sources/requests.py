"""Queries with their candidates, one at a time: from a TREC run over a collection, or from JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from perank.errors import BadInput
from perank.files import json_object
from perank.records import Candidates, Collection, Passage, Qrels, Query, Run
from perank.sources import check_new, make_candidates, text_in


def run_requests(collection: Collection, run: Run, depth: int, *, texts: bool = True) -> Iterator[Candidates]:
    """Yield the top `depth` candidates of every query of the run, in the run's order.

    Without `texts` the collection's passages are not read: candidates have ids and empty texts. Raises `BadInput` for
    a query or passage id that the collection doesn't have.
    """
    source = collection if texts else _IdsAlone(collection.name, collection.queries)
    for query_id in run:
        yield from make_candidates(source, run, depth, [query_id])


def json_requests(lines: Iterable[tuple[int, str]], path: str, *, texts: bool = True) -> Iterator[Candidates]:
    """Yield the candidates of each (line number, JSON object) with `query`, `passages` and optionally `id`.

    A passage is a text or an object with `text`, and optionally `id` and `title`; without `texts` the id suffices. The
    default id of a query is its line's number, that of a passage its position from 0. Raises `BadInput` for a broken
    line, an empty query and a query's id that was used before.
    """
    seen: set[str] = set()
    for line, text in lines:
        row = json_object(text, path, line)
        if unknown := sorted(row.keys() - {"id", "query", "passages"}):
            raise BadInput(f"unknown key {unknown[0]!r}", remedy="use query, passages and id", path=path, line=line)
        query = Query(_id(row, str(line), path, line), text_in(row, "query", path, line))
        check_new(query.id, seen, path, line)
        seen.add(query.id)
        if not query.text.strip():
            raise BadInput("the query is empty", remedy="give it a text", path=path, line=line, id=query.id)
        if not isinstance(row.get("passages"), list):
            raise BadInput("expected a list in 'passages'", remedy="fix the line", path=path, line=line, id=query.id)
        yield Candidates(query, tuple(_passages(row["passages"], path, line, texts)))


def _passages(rows: list[Any], path: str, line: int, texts: bool) -> Iterator[Passage]:
    for position, row in enumerate(rows):
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            problem = f"passage number {position} (from 0) is neither a text nor an object"
            raise BadInput(problem, remedy="fix the line", path=path, line=line)
        id = _id(row, str(position), path, line)
        title = text_in(row, "title", path, line, id) if row.get("title") is not None else ""
        optional = not texts and "id" in row and row.get("text") is None
        yield Passage(id, "" if optional else text_in(row, "text", path, line, id), title)


def _id(row: dict[str, Any], default: str, path: str, line: int) -> str:
    if isinstance(row.get("id"), int) and not isinstance(row["id"], bool):
        return str(row["id"])
    return text_in(row, "id", path, line) if row.get("id") is not None else default


@dataclass
class _IdsAlone(Mapping[str, Passage]):
    """A collection that knows its queries; any id is a passage without text."""

    runs: ClassVar[Mapping[str, Run]] = {}
    name: str
    queries: Mapping[str, Query]

    @property
    def passages(self) -> Mapping[str, Passage]:
        return self

    @property
    def qrels(self) -> Qrels:
        return {}

    def __getitem__(self, id: str) -> Passage:
        return Passage(id, "")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
