"""Between the authors' rows, which carry prompts and texts, and perank's, which carry ids and an order.

Their rows don't keep the query apart: it is read back out of the prompt, which must then be the reference prompt to
the last character. Ids are made here: passages by their text's digest, queries by their place in the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from perank.errors import BadInput
from perank.model.prompts import clean
from perank.model.templates import template
from perank.preparation.authors_jsonl import PLACEHOLDER, AlignmentRow, RankingRow
from perank.records import Passage, Query
from perank.training.rows import RankRow


def alignment_row(instruction: str, text: str) -> AlignmentRow:
    """A row that asks for `text` with an instruction of Table 7 (`{slot}` in it)."""
    return AlignmentRow(instruction.format(slot=PLACEHOLDER), text, (text,))


def ranking_row(query: str, passages: Sequence[str], order: Sequence[int]) -> RankingRow:
    """A row with the reference prompts; `order` holds positions in `passages`, best first."""
    shape, query = template("reference"), clean(query)
    texts = [clean(shape.clean(text)) for text in passages]
    return RankingRow(
        user=shape.message(query, len(texts), slot=PLACEHOLDER),
        user_with_texts=shape.message(query, len(texts), slot=PLACEHOLDER, texts=texts),
        passages=tuple(passages),
        order=tuple(order),
    )


def plain_rows(rows: Iterable[RankingRow]) -> tuple[list[RankRow], dict[str, Passage]]:
    """Rows of ids, and the passages by id. Raises `BadInput` for a prompt that isn't the reference one."""
    plain: list[RankRow] = []
    passages: dict[str, Passage] = {}
    for number, row in enumerate(rows, start=1):
        query = Query(str(number), query_of(row))
        ids = _ids(row.passages)
        passages |= {id: Passage(id, text) for id, text in zip(ids, row.passages, strict=True)}
        plain.append(RankRow(query, tuple(ids), row.order))
    return plain, passages


def query_of(row: RankingRow) -> str:
    """The query inside the row's prompt. Raises `BadInput` where the prompt isn't the reference prompt."""
    found = _asking(len(row.passages)).fullmatch(row.user)
    if found is None:
        raise BadInput(
            f"the prompt is not the reference prompt for {len(row.passages)} passages",
            remedy="use the row's own prompts instead of its query",
            id=row.user[:60],
        )
    return found["query"]


@lru_cache(maxsize=64)
def _asking(n: int) -> re.Pattern[str]:
    """The reference prompt of n passages with its query as a group; the later mention must repeat it."""
    before, *after = template("reference").message("\0", n, slot=PLACEHOLDER).split("\0")
    return re.compile(f"{re.escape(before)}(?P<query>.+?){'(?P=query)'.join(map(re.escape, after))}", re.DOTALL)


def _ids(texts: Sequence[str]) -> list[str]:
    """One id per text; a text that stands in the row again gets an id of its own."""
    seen: dict[str, int] = {}
    ids = []
    for text in texts:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids
