"""The authors' JSONL both ways: their rows as a folder of ids and texts, and perank's rows in their form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from perank.errors import BadInput
from perank.files import atomic_write
from perank.model.templates import ALIGN_INSTRUCTIONS
from perank.preparation.authors_jsonl import (
    AlignmentRow,
    RankingRow,
    alignment_rows,
    ranking_rows,
    write_alignment,
    write_ranking,
)
from perank.preparation.authors_rows import alignment_row, plain_rows, ranking_row
from perank.preparation.resumable import json_line
from perank.records import Collection, Passage, Query
from perank.training.rows import read_rows, write_rows


def import_alignment(source: str | Path, folder: Path) -> dict[str, int]:
    """Their alignment rows -> corpus.jsonl, each text once; how many. Their instructions are Table 7's and not kept."""
    texts = dict.fromkeys(row.answer for row in alignment_rows(source))
    if not texts:
        raise BadInput("there are no rows", remedy="name a file with some", path=source)
    passages = (Passage(str(number), text) for number, text in enumerate(texts, start=1))
    return {"passages": _write_passages(folder / "corpus.jsonl", passages)}


def import_ranking(source: str | Path, folder: Path) -> dict[str, int]:
    """Their ranking rows -> corpus.jsonl, queries.jsonl and rows.jsonl; how many of each.

    Raises `BadInput` for a row whose prompt isn't the reference prompt.
    """
    rows, passages = plain_rows(ranking_rows(source))
    if not rows:
        raise BadInput("there are no rows", remedy="name a file with some", path=source)
    queries = {row.query.id: row.query for row in rows}
    _write_passages(folder / "corpus.jsonl", passages.values())
    _write_queries(folder / "queries.jsonl", queries.values())
    write_rows(folder / "rows.jsonl", rows)
    return {"passages": len(passages), "queries": len(queries), "rows": len(rows)}


def export_alignment(collection: Collection, output: Path, limit: int | None) -> dict[str, int]:
    """A collection's texts as their alignment rows, the instructions of Table 7 in turn."""
    return {"rows": write_alignment(output, _alignment(islice(collection.passages.values(), limit)))}


def export_ranking(collection: Collection, rows_path: str | Path, output: Path, limit: int | None) -> dict[str, int]:
    """Rows of ids as their ranking rows, with the reference prompts. Raises `BadInput` for an id without a text."""
    return {"rows": write_ranking(output, _ranking(collection, rows_path, limit))}


def write_lines(path: str | Path, lines: Iterable[str]) -> int:
    """Write lines atomically; how many."""
    count = 0
    with atomic_write(path) as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def _alignment(passages: Iterable[Passage]) -> Iterator[AlignmentRow]:
    for number, passage in enumerate(passages):
        with _theirs(passage.id):
            row = alignment_row(ALIGN_INSTRUCTIONS[number % len(ALIGN_INSTRUCTIONS)], passage.contents)
        yield row


def _ranking(collection: Collection, rows_path: str | Path, limit: int | None) -> Iterator[RankingRow]:
    for line, row in enumerate(islice(read_rows(rows_path), limit), start=1):
        texts = [_text(collection, id, rows_path, line) for id in row.passage_ids]
        with _theirs(row.query.id):
            theirs = ranking_row(row.query.text, texts, row.order)
        yield theirs


@contextmanager
def _theirs(id: str) -> Iterator[None]:
    """A text that their form can't hold becomes `BadInput`."""
    try:
        yield
    except ValueError as error:
        raise BadInput(str(error), remedy="leave the text out", id=id) from error


def _text(collection: Collection, id: str, path: str | Path, line: int) -> str:
    try:
        return collection.passages[id].contents
    except KeyError as error:
        remedy = "name the collection that the rows were made from"
        raise BadInput("the collection has no such passage", remedy=remedy, path=path, line=line, id=id) from error


def _write_passages(path: Path, passages: Iterable[Passage]) -> int:
    records = ({"_id": passage.id, "title": passage.title, "text": passage.text} for passage in passages)
    return write_lines(path, map(json_line, records))


def _write_queries(path: Path, queries: Iterable[Query]) -> int:
    return write_lines(path, (json_line({"_id": query.id, "text": query.text}) for query in queries))
