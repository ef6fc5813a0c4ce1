"""Parse an LLM's output into a full permutation, and count every repair.

Asked for `[4] > [2] > ...`, LLMs also write prose, lists, JSON, partial rankings, duplicates, and passages that don't
exist. Identifiers are taken from chains joined by `>`, else from square brackets, else from bare numbers. Passages that
weren't named follow in their input order (as in RankGPT).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

# White space is collapsed first and no repetition is unbounded, because degenerate outputs can be long.
_NAMED = r"(?:(?:passages?|documents?|docs?|texts?|id|no\.?|number|rank) ?[#:]? ?)?#?"
_ID = rf"[\[({{]{{0,3}}\s?{_NAMED}\d+\s?[\])}}]{{0,3}}"
_QUOTES = r"\s?[`*\"']{0,3}\s?"
_CHAIN = re.compile(rf"{_ID}(?:{_QUOTES}(?:>{{1,3}}|→|&gt;){_QUOTES}{_ID})+", re.IGNORECASE)
_CLEAN = re.compile(r"\s?\[\d+\](?:\s?>\s?\[\d+\])*")
_BRACKETS = re.compile(r"\[([^\[\]]*\d[^\[\]]*)\]")
_ORDINAL = re.compile(r"^\(?\d+ ?[.):] (?=[^\d\n]*\d)", re.MULTILINE)  # "1. passage 4": the 1 counts lines
_BARE = re.compile(r"(?<![\d.])\d+(?!\d|\.\d)")
_THOUGHT = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)  # the answer follows


class Repairs(NamedTuple):
    """Counts of repairs in an answer. `rephrased` is 1 unless all of it has the form `[4] > [2] > ...`."""

    missing: int = 0
    repeated: int = 0
    out_of_range: int = 0
    rephrased: int = 0

    @property
    def total(self) -> int:
        """The sum of all repairs."""
        return sum(self)


@dataclass(frozen=True, slots=True)
class Permutation:
    """`order` holds every position from 0 to n - 1 once, best first."""

    order: tuple[int, ...]
    repairs: Repairs


def permutation(text: str, n: int, *, asked: int | None = None) -> Permutation:
    """Parse any `text` into a ranking of n passages; `asked` is the number of ranks requested (None: all n)."""
    said = _collapsed(text)
    named = [int(digits) if len(digits) < 9 else 0 for digits in _identifiers(said)]
    inside = [number - 1 for number in named if 1 <= number <= n]
    order = list(dict.fromkeys(inside))
    repairs = Repairs(
        missing=max(0, (n if asked is None else min(asked, n)) - len(order)),
        repeated=len(inside) - len(order),
        out_of_range=len(named) - len(inside),
        rephrased=int(n > 0 and _CLEAN.fullmatch(said.strip().rstrip(".")) is None),
    )
    return Permutation((*order, *(i for i in range(n) if i not in set(order))), repairs)


def ranked_so_far(text: str, n: int) -> int:
    """How many ranks of a partial answer are final; 0 if it isn't of the form `[4] > [2] > ...`.

    Whatever follows, `permutation` begins with these.
    """
    written = _collapsed(text[: text.rfind("]") + 1])
    if _CLEAN.fullmatch(written) is None:
        return 0
    return len({int(digits) for digits in re.findall(r"\d+", written) if len(digits) < 9 and 1 <= int(digits) <= n})


def _identifiers(text: str) -> list[str]:
    """The digits of passage identifiers, in the order of the text."""
    start = _CLEAN.match(text)
    said = text if start else _THOUGHT.split(text)[-1]
    chains = list(_CHAIN.finditer(said))
    if chains:
        if start and chains[0].start() > start.start() + 1:
            chains.insert(0, start)
        return [digits for chain in chains for digits in re.findall(r"\d+", chain.group())]
    if groups := _BRACKETS.findall(said):
        return [digits for group in groups for digits in _BARE.findall(group)]
    numbered = len(_ORDINAL.findall(said)) > 1
    return _BARE.findall(_ORDINAL.sub("", said) if numbered else said)


def _collapsed(text: str) -> str:
    """Collapse each run of white space to a line break if it contains one, else to a space."""
    return re.sub(r"\s+", lambda run: "\n" if "\n" in run.group() else " ", text)
