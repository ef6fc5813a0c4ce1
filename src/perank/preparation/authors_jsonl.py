"""Read and write the authors' JSONL: alignment rows and ranking rows, with complete prompts and texts.

    alignment   messages (user, assistant), extra_texts (one text per <PLACEHOLDER>)
    ranking     messages_w_content, messages_wo_content (user), ranking, extra_texts (2n: prompt order, then ranked)

`ranking` is a permutation, best first, of positions from 0 or from 1; rows here count from 0. The second half of
`extra_texts` is what the authors' code feeds back in training without comparing it with `ranking`; here the two must
agree. `convert_authors` converts from and to `perank.training.rows`, perank's own format of ids and an order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from perank.errors import BadInput
from perank.files import json_lines, write_json_lines
from perank.model import SLOT, unmarked

PLACEHOLDER = "<PLACEHOLDER>"  # their prompt slots
RANK = "<RANK>"  # their target slots; in a text it would become a label

Row = TypeVar("Row")
_ALIGNMENT = frozenset({"messages", "extra_texts"})
_RANKING = frozenset({"messages_w_content", "messages_wo_content", "ranking", "extra_texts"})


@dataclass(frozen=True, slots=True)
class AlignmentRow:
    """A user message with N `<PLACEHOLDER>`s, the assistant's text, and the texts of the placeholders in order.

    Texts beyond the Nth are kept but not used; `spliced` has the others.
    """

    user: str
    answer: str
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        _counted(self.user, len(self.spliced))
        _readable([self.answer, *self.texts])

    @property
    def spliced(self) -> tuple[str, ...]:
        """The text of each placeholder."""
        return self.texts[: self.user.count(PLACEHOLDER)]


@dataclass(frozen=True, slots=True)
class RankingRow:
    """The user messages without and with passage texts, N passages in prompt order, and their order, best first."""

    user: str
    user_with_texts: str
    passages: tuple[str, ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.passages))):
            raise ValueError(f"the ranking is not a permutation of {len(self.passages)} positions: {self.order}")
        for user in (self.user, self.user_with_texts):
            _counted(user, len(self.passages))
        _readable(self.passages)


def slotted(user: str) -> str:
    """Replace every `<PLACEHOLDER>` in a user message with `SLOT`, for `PromptBuilder.chat`."""
    return unmarked(user).replace(PLACEHOLDER, SLOT)


def read_alignment(path: str | Path) -> list[AlignmentRow]:
    """Read the rows of a file. Raises `BadInput` with the line of a malformed one."""
    return list(alignment_rows(path))


def read_ranking(path: str | Path) -> list[RankingRow]:
    """Read the rows of a file; orders count from 0. Raises `BadInput` with the line of a malformed one."""
    return list(ranking_rows(path))


def alignment_rows(path: str | Path) -> Iterator[AlignmentRow]:
    """Like `read_alignment`, one row at a time: the authors' files have gigabytes."""
    return _read(path, _alignment_row)


def ranking_rows(path: str | Path) -> Iterator[RankingRow]:
    """Like `read_ranking`, one row at a time."""
    return _read(path, _ranking_row)


def write_alignment(path: str | Path, rows: Iterable[AlignmentRow]) -> int:
    """Write one JSON object per row, atomically; return the number of rows."""
    return write_json_lines(path, ({"messages": _chat(r.user, r.answer), "extra_texts": list(r.texts)} for r in rows))


def write_ranking(path: str | Path, rows: Iterable[RankingRow]) -> int:
    """Write one JSON object per row, atomically; return the number of rows."""
    records = (
        {
            "messages_w_content": _chat(row.user_with_texts),
            "messages_wo_content": _chat(row.user),
            "ranking": list(row.order),
            "extra_texts": [*row.passages, *(row.passages[i] for i in row.order)],
        }
        for row in rows
    )
    return write_json_lines(path, records)


def _alignment_row(record: Mapping[str, Any]) -> AlignmentRow:
    _keys(record, _ALIGNMENT)
    turns = _turns(record, "messages")
    if [role for role, _ in turns] != ["user", "assistant"]:
        raise ValueError("messages must be one user message and the assistant's answer")
    return AlignmentRow(turns[0][1], turns[1][1], _texts(record))


def _ranking_row(record: Mapping[str, Any]) -> RankingRow:
    _keys(record, _RANKING)
    order = _permutation(record["ranking"])
    texts, n = _texts(record), len(order)
    if len(texts) != 2 * n:
        raise ValueError(
            f"extra_texts must hold {2 * n} texts, the {n} passages in prompt order and again as ranked, "
            f"found {len(texts)}"
        )
    for rank, position in enumerate(order):
        if texts[n + rank] != texts[position]:
            raise ValueError(
                f"extra_texts contradicts ranking: rank {rank + 1} is passage {position + 1}, "
                f"but text {n + rank + 1} is another one"
            )
    without, with_texts = (_user(record, key) for key in ("messages_wo_content", "messages_w_content"))
    return RankingRow(without, with_texts, texts[:n], order)


def _permutation(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(i) is int for i in value):
        raise ValueError("ranking must be a non-empty list of integers")
    first = min(value)
    if first not in (0, 1) or sorted(value) != list(range(first, first + len(value))):
        raise ValueError(f"ranking is not a permutation of {len(value)} positions from 0 or from 1: {value[:20]}")
    return tuple(i - first for i in value)


def _user(record: Mapping[str, Any], key: str) -> str:
    """Return the user's message; an assistant turn may follow, which the authors' code overwrites."""
    turns = _turns(record, key)
    if [role for role, _ in turns] not in (["user"], ["user", "assistant"]):
        raise ValueError(f"{key} must be one user message, with or without an answer")
    return turns[0][1]


def _turns(record: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    messages = record[key]
    if not isinstance(messages, list):
        raise ValueError(f"{key} must be a list of messages")
    for message in messages:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise ValueError(f"every message in {key} must have a role and a content")
        if not isinstance(message["role"], str) or not isinstance(message["content"], str):
            raise ValueError(f"role and content in {key} must be text")
    return [(message["role"], message["content"]) for message in messages]


def _texts(record: Mapping[str, Any]) -> tuple[str, ...]:
    texts = record["extra_texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("extra_texts must be a list of non-empty texts")
    return tuple(texts)


def _keys(record: Mapping[str, Any], expected: frozenset[str]) -> None:
    if record.keys() != expected:
        found = ", ".join(map(str, record)) or "none"
        raise ValueError(f"expected the fields {', '.join(sorted(expected))}, found {found[:200]}")


def _counted(user: str, n: int) -> None:
    slots = user.count(PLACEHOLDER)
    if slots != n or n == 0:
        raise ValueError(f"the user message has {slots} {PLACEHOLDER} for {n} texts")
    _encodable(user)


def _readable(texts: Iterable[str]) -> None:
    for text in texts:
        _encodable(text)
        if PLACEHOLDER in text or RANK in text:
            raise ValueError(f"a text has {PLACEHOLDER} or {RANK}, which are special tokens of the authors' tokenizer")


def _encodable(text: str) -> None:
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("a text has half of a surrogate pair, which is not a character")


def _chat(user: str, answer: str | None = None) -> list[dict[str, str]]:
    turns = [("user", user)] if answer is None else [("user", user), ("assistant", answer)]
    return [{"role": role, "content": content} for role, content in turns]


def _read(path: str | Path, make: Callable[[Mapping[str, Any]], Row]) -> Iterator[Row]:
    for number, record in json_lines(path):
        try:
            row = make(record)
        except ValueError as error:
            raise BadInput(str(error), remedy="fix or remove the line", path=path, line=number) from error
        yield row
