"""Read queries and passages: JSON lines with `_id` and `text` (BEIR's format), or `id<TAB>text` lines.

A passage's text may be the empty string (Cranfield has two such documents); a query's may not.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from pathlib import Path

from perank.errors import BadInput
from perank.files import json_lines, lines
from perank.records import Passage, Query
from perank.sources.fields import check_new, text_in, warn_of_repeats


def text_file(folder: Path, name: str) -> Path:
    """Return the path of a folder's file, or of its gzipped form if only that exists."""
    packed = folder / f"{name}.gz"
    return packed if packed.is_file() and not (folder / name).is_file() else folder / name


def read_passages(path: str | Path) -> dict[str, Passage]:
    """Read the passages of a JSONL file (`_id`, `text`, optionally `title`), in its order.

    Repeated passages are read once. Raises `BadInput` for a broken line, a missing id, one with two texts, or a missing
    text.
    """
    passages: dict[str, Passage] = {}
    repeated = 0
    for line, row in json_lines(path):
        id = text_in(row, "_id", path, line)
        title = text_in(row, "title", path, line, id) if row.get("title") is not None else ""
        passage = Passage(id, text_in(row, "text", path, line, id), title)
        if passages.get(id) == passage:
            repeated += 1
            continue
        check_new(id, passages, path, line)
        passages[id] = passage
    warn_of_repeats(repeated, path)
    return passages


def read_queries(path: str | Path) -> dict[str, Query]:
    """Read the queries of a JSONL file (`_id`, `text`) or of `id<TAB>text` lines, in the file's order.

    Repeated queries are read once. Raises `BadInput` for a broken line, a missing id, one with two texts, or an empty
    text.
    """
    path = Path(path)
    rows = _json_texts(path) if ".jsonl" in path.suffixes else _tabbed_texts(path)
    queries: dict[str, Query] = {}
    repeated = 0
    for line, id, text in rows:
        if id in queries and queries[id].text == text:
            repeated += 1
            continue
        check_new(id, queries, path, line)
        if not text.strip():
            raise BadInput("the query is empty", remedy="give it a text or remove it", path=path, line=line, id=id)
        queries[id] = Query(id, text)
    warn_of_repeats(repeated, path)
    return queries


def _json_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    for line, row in json_lines(path):
        id = text_in(row, "_id", path, line)
        yield line, id, text_in(row, "text", path, line, id)


def _tabbed_texts(path: Path) -> Iterator[tuple[int, str, str]]:
    for line, row in lines(path):
        id, tab, text = row.partition("\t")
        if not tab:
            raise BadInput("expected id<TAB>text, found no tab", remedy="fix the line", path=path, line=line)
        yield line, id, text


class StreamedPassages(Mapping[str, Passage]):
    """A mapping of passages that are looked up one by one but stream in the source's order.

    Subclasses define `__getitem__`, `__len__` and `stream`; iteration, `items` and `values` use `stream`.
    """

    def stream(self) -> Iterator[Passage]:
        """Yield all passages."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return (passage.id for passage in self.stream())

    def items(self) -> ItemsView[str, Passage]:
        return _Items(self)

    def values(self) -> ValuesView[Passage]:
        return _Values(self)


class _Items(ItemsView[str, Passage]):
    _mapping: StreamedPassages

    def __iter__(self) -> Iterator[tuple[str, Passage]]:
        return ((passage.id, passage) for passage in self._mapping.stream())


class _Values(ValuesView[Passage]):
    _mapping: StreamedPassages

    def __iter__(self) -> Iterator[Passage]:
        return self._mapping.stream()
