"""What a ranking consists of besides its candidates: its cost, its results one by one, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

_SHOWN, _COLUMNS = 10, 80  # printed ranks, characters per printed line


class Result(NamedTuple):
    """One candidate: its rank from 1, its score in [0, 1] (see `Ranking.scores`), the caller's own document."""

    rank: int
    score: float
    document: Any


@dataclass(frozen=True, slots=True)
class Bill:
    """The cost of a ranking. Tokens exclude padding and include rejected drafts; times are wall seconds.

    `texts_shortened` to fit an encoder or a prompt; `repairs` of an LLM's output, `dollars` paid.
    """

    forwards: int = 0
    tokens_processed: int = 0
    tokens_generated: int = 0
    seconds_encode: float = 0.0
    seconds_prefill: float = 0.0
    seconds_decode: float = 0.0
    repairs: int = 0
    texts_shortened: int = 0
    dollars: float = 0.0

    @property
    def seconds(self) -> float:
        """The sum of encoding, prefill and decoding."""
        return self.seconds_encode + self.seconds_prefill + self.seconds_decode

    def __add__(self, other: Bill) -> Bill:
        return Bill(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def rank_scores(n: int) -> list[float]:
    """Scores of ranks 1 to n where nothing better is known: 1 - rank / (n + 1), strictly decreasing in (0, 1).

    They follow from the rank alone: they sort as the ranking does, and a threshold on them cuts at a rank.
    """
    return [1 - rank / (n + 1) for rank in range(1, n + 1)]


def described(query: str, ids: Sequence[str]) -> str:
    """One line: how many passages, for which query, and the first ids."""
    first = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"<Ranking of {len(ids)} passages for {_cut(query, 40)!r}: {first}>"


def table(passages: Sequence[tuple[str, str]]) -> str:
    """The first ranks of (id, text) pairs, best first, a line each."""
    lines = [("rank", "id", "passage")]
    for rank, (id, text) in enumerate(passages[:_SHOWN], start=1):
        lines.append((str(rank), _cut(id, 32), " ".join(text.split())))
    width = max(len(id) for _, id, _ in lines)
    shown = [_cut(f"{rank:>4}  {id:<{width}}  {text}".rstrip(), _COLUMNS) for rank, id, text in lines]
    more = len(passages) - _SHOWN
    return "\n".join([*shown, *([f"... and {more} more"] if more > 0 else [])])


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 4].rstrip() + " ..."
