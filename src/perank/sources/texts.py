"""Queries and passages as files hold them: JSON lines with `_id` and `text` (BEIR's form), or `id<TAB>text` lines.

Every id is checked once, here: text, not empty, not used twice. A passage's text may be the empty string where the
file says so (Cranfield has two such documents); a query's may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import json_lines, lines
from perank.records import Passage, Query


def read_passages(path: str | Path) -> dict[str, Passage]:
    """Passages of a JSONL file (`_id`, `text`, optionally `title`), in its order.

    Raises `BadInput` for a broken line, a missing or duplicate id, or a missing text.
    """
    passages: dict[str, Passage] = {}
    for line, row in json_lines(path):
        id = _field(row, "_id", path, line)
        check_new(id, passages, path, line)
        title = _field(row, "title", path, line, id) if row.get("title") is not None else ""
        passages[id] = Passage(id, _field(row, "text", path, line, id), title)
    return passages


def read_queries(path: str | Path) -> dict[str, Query]:
    """Queries of a JSONL file (`_id`, `text`) or else of `id<TAB>text` lines, in the file's order.

    Raises `BadInput` for a broken line, a missing or duplicate id, or an empty text.
    """
    path = Path(path)
    rows = _json_texts(path) if ".jsonl" in path.suffixes else _tabbed_texts(path)
    queries: dict[str, Query] = {}
    for line, id, text in rows:
        check_new(id, queries, path, line)
        if not text.strip():
            raise BadInput("the query is empty", remedy="give it a text or remove it", path=path, line=line, id=id)
        queries[id] = Query(id, text)
    return queries


def check_new(id: str, known: dict[str, Any], path: str | Path, line: int) -> None:
    """Raise `BadInput` unless `id` has characters and isn't among `known`."""
    if not id.strip():
        raise BadInput("the id is empty", remedy="give every line an id", path=path, line=line)
    if id in known:
        raise BadInput("the id was used before", remedy="keep one of the lines", path=path, line=line, id=id)


def _json_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    for line, row in json_lines(path):
        id = _field(row, "_id", path, line)
        yield line, id, _field(row, "text", path, line, id)


def _tabbed_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    for line, row in lines(path):
        id, tab, text = row.partition("\t")
        if not tab:
            raise BadInput("expected id<TAB>text, found no tab", remedy="mend the line", path=path, line=line)
        yield line, id, text


def _field(row: dict[str, Any], key: str, path: str | Path, line: int, id: str | None = None) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        found = f"found {type(value).__name__}" if key in row else "found none"
        raise BadInput(f"expected text in {key!r}, {found}", remedy="mend the line", path=path, line=line, id=id)
    try:
        value.encode("utf-8")  # JSON can spell half a surrogate pair, which no tokenizer takes
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{key!r} holds half a surrogate pair", remedy="write the text as UTF-8", path=path, line=line
        ) from error
    return value
