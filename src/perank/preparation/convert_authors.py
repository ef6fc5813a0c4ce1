"""Convert between the authors' JSONL rows of prompts and texts and perank's rows of ids and an order.

The authors' rows have no separate query: it is parsed from the prompt, which must match the reference prompt exactly.
Passage ids are digests of texts, query ids are positions in the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import write_json, write_json_lines
from perank.model import ALIGN_INSTRUCTIONS, clean, template
from perank.preparation import authors_jsonl
from perank.preparation.authors_jsonl import PLACEHOLDER, AlignmentRow, RankingRow
from perank.records import Collection, Passage, Query
from perank.training.rows import RankRow, passages_of, read_rows, write_rows


def described(kind: str, counts: dict[str, int], path: Path) -> dict[str, Any]:
    """Write a manifest of the conversion and return it."""
    manifest = {"kind": kind, "statistics": counts}
    write_json(path, manifest)
    return manifest


def import_alignment(source: str | Path, folder: Path) -> dict[str, int]:
    """Convert alignment rows to corpus.jsonl, without duplicates and instructions (Table 7); return the counts."""
    texts = dict.fromkeys(row.answer for row in authors_jsonl.alignment_rows(source))
    if not texts:
        raise BadInput("there are no rows", remedy="name a file with some", path=source)
    passages = (Passage(str(number), text) for number, text in enumerate(texts, start=1))
    return {"passages": _write_passages(folder / "corpus.jsonl", passages)}


def import_ranking(source: str | Path, folder: Path) -> dict[str, int]:
    """Convert ranking rows to corpus.jsonl, queries.jsonl and rows.jsonl; return the counts.

    Raises `BadInput` for a row without the reference prompt.
    """
    rows, passages = plain_rows(authors_jsonl.ranking_rows(source))
    if not rows:
        raise BadInput("there are no rows", remedy="name a file with some", path=source)
    queries = {row.query.id: {"_id": row.query.id, "text": row.query.text} for row in rows}
    return {
        "passages": _write_passages(folder / "corpus.jsonl", passages.values()),
        "queries": write_json_lines(folder / "queries.jsonl", queries.values()),
        "rows": write_rows(folder / "rows.jsonl", rows),
    }


def export_alignment(collection: Collection, output: Path, limit: int | None) -> dict[str, int]:
    """Write a collection's texts as alignment rows, with the instructions of Table 7 in turn."""
    passages = islice(collection.passages.values(), limit)
    return {"rows": authors_jsonl.write_alignment(output, _alignment(passages))}


def export_ranking(collection: Collection, rows_path: str | Path, output: Path, limit: int | None) -> dict[str, int]:
    """Write rows of ids as ranking rows with the reference prompts. Raises `BadInput` for an id without text."""
    return {"rows": authors_jsonl.write_ranking(output, _ranking(collection, rows_path, limit))}


def _alignment(passages: Iterable[Passage]) -> Iterator[AlignmentRow]:
    for number, passage in enumerate(passages):
        with _theirs(passage.id):
            row = alignment_row(ALIGN_INSTRUCTIONS[number % len(ALIGN_INSTRUCTIONS)], passage.contents)
        yield row


def _ranking(collection: Collection, rows_path: str | Path, limit: int | None) -> Iterator[RankingRow]:
    for line, row in enumerate(islice(read_rows(rows_path), limit), start=1):
        passages = passages_of(collection.passages, row.passage_ids, path=rows_path, line=line)
        with _theirs(row.query.id):
            theirs = ranking_row(row.query.text, [passage.contents for passage in passages], row.order)
        yield theirs


@contextmanager
def _theirs(id: str) -> Iterator[None]:
    """Raise `BadInput` for a text that the authors' format cannot represent."""
    try:
        yield
    except ValueError as error:
        raise BadInput(str(error), remedy="omit the text", id=id) from error


def _write_passages(path: Path, passages: Iterable[Passage]) -> int:
    return write_json_lines(path, ({"_id": p.id, "title": p.title, "text": p.text} for p in passages))


def alignment_row(instruction: str, text: str) -> AlignmentRow:
    """Return a row that asks for `text` with an instruction of Table 7 (with `{slot}`)."""
    return AlignmentRow(instruction.format(slot=PLACEHOLDER), text, (text,))


def ranking_row(query: str, passages: Sequence[str], order: Sequence[int]) -> RankingRow:
    """Return a row with the reference prompts; `order` has positions in `passages`, best first."""
    shape, query = template("reference"), clean(query)
    texts = [clean(shape.clean(text)) for text in passages]
    return RankingRow(
        user=shape.message(query, len(texts), slot=PLACEHOLDER),
        user_with_texts=shape.message(query, len(texts), slot=PLACEHOLDER, texts=texts),
        passages=tuple(passages),
        order=tuple(order),
    )


def plain_rows(rows: Iterable[RankingRow]) -> tuple[list[RankRow], dict[str, Passage]]:
    """Return rows of ids, and the passages by id. Raises `BadInput` for a prompt that isn't the reference prompt."""
    plain: list[RankRow] = []
    passages: dict[str, Passage] = {}
    for number, row in enumerate(rows, start=1):
        query, ids = Query(str(number), query_of(row)), _ids(row.passages)
        passages |= {id: Passage(id, text) for id, text in zip(ids, row.passages, strict=True)}
        plain.append(RankRow(query, tuple(ids), row.order))
    return plain, passages


def query_of(row: RankingRow) -> str:
    """Parse the query in the row's prompt. Raises `BadInput` if that isn't the reference prompt."""
    found = _asking(len(row.passages)).fullmatch(row.user)
    if found is None:
        problem = f"the prompt is not the reference prompt for {len(row.passages)} passages"
        raise BadInput(problem, remedy="use the row's own prompts instead of its query", id=row.user[:60])
    return found["query"]


@lru_cache(maxsize=64)
def _asking(n: int) -> re.Pattern[str]:
    """Return a pattern of the reference prompt of n passages; later mentions must repeat its group `query`."""
    before, *after = template("reference").message("\0", n, slot=PLACEHOLDER).split("\0")
    return re.compile(f"{re.escape(before)}(?P<query>.+?){'(?P=query)'.join(map(re.escape, after))}", re.DOTALL)


def _ids(texts: Sequence[str]) -> list[str]:
    """Return one id per text, also distinct ones for repeated texts."""
    seen: dict[str, int] = {}
    ids = []
    for text in texts:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids
