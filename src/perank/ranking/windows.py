"""Sliding windows over more candidates than one prompt takes: from the last to the first, each carrying its best on.

Pure: no model, no torch. A window [a, b) needs only the ranks that are used later: the next window
[.., b_next) reads the first b_next - a of them, in their order, and a cutoff k the first min(k, b) - a. The rest of
its order is never used. (The simpler `w - s` is wrong for cutoffs and where the top window is short.)

Windows of one query follow each other; those of different queries run together, and none depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from perank.errors import BadInput
from perank.ranking.batching import batches
from perank.records import Bill, Candidates, Passage, Ranking


@dataclass(frozen=True, slots=True)
class Span:
    """One window: positions [start, stop) of the current order, of whose ranking the first `depth` ranks matter."""

    start: int
    stop: int
    depth: int

    @property
    def size(self) -> int:
        """How many passages it holds."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Windows:
    """`window` passages at a time, moving up by `step`.

    With a `cutoff` the first `cutoff` ranks are those of full rankings, the others are not. Raises `BadInput` for a
    step beyond the window or below 1, and for a cutoff below 1.
    """

    window: int = 20
    step: int = 10
    cutoff: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.step <= self.window:
            raise BadInput(
                f"a window of {self.window} with a step of {self.step} leaves passages out",
                remedy="choose a step between 1 and the window",
            )
        if self.cutoff is not None and self.cutoff < 1:
            raise BadInput(f"a cutoff of {self.cutoff}", remedy="give the number of ranks wanted, or none for all")

    def plan(self, n: int) -> list[Span]:
        """The windows for n candidates in the order they run; the last begins at 0.

        Windows whose outcome can't reach the cutoff are left out.
        """
        k, stop, spans = n if self.cutoff is None else self.cutoff, n, list[Span]()
        while stop > 0:
            start = max(0, stop - self.window)
            read_on = stop - self.step if start else 0
            depth = max(read_on - start, min(k, stop) - start)
            if depth > 0:
                spans.append(Span(start, stop, depth))
            stop = read_on
        return spans


def apply(order: Sequence[int], span: Span, ranking: Sequence[int]) -> list[int]:
    """`order` with [start, stop) rearranged: `ranking` is a permutation of the span's own positions.

    Raises `ValueError` for anything else.
    """
    part = order[span.start : span.stop]
    if sorted(ranking) != list(range(len(part))):
        raise ValueError(f"not a permutation of {len(part)} positions: {ranking}")
    return [*order[: span.start], *(part[i] for i in ranking), *order[span.stop :]]


class SlidingQuery:
    """A query and the order of its candidates so far; `spans` are the windows that are still to be ranked.

    Raises `BadInput` for an empty query.
    """

    def __init__(self, candidates: Candidates, windows: Windows) -> None:
        if not candidates.query.text.strip():
            raise BadInput("the query is empty", remedy="give it a text", id=candidates.query.id)
        self.candidates, self.text, self.bill = candidates, candidates.query.text, Bill()
        self.order = list(range(len(candidates)))
        self.spans = windows.plan(len(candidates)) if len(candidates) > 1 else []  # one passage needs no model

    @property
    def positions(self) -> list[int]:
        """The candidates in the present window, in their current order."""
        return self.order[self.spans[0].start : self.spans[0].stop]

    @property
    def passages(self) -> list[Passage]:
        """Their passages."""
        return [self.candidates.passages[position] for position in self.positions]

    def settle(self, ranking: Sequence[int], cost: Bill) -> None:
        """Apply the present window's ranking, a permutation of its positions, and move on to the next window."""
        self.order, self.bill = apply(self.order, self.spans.pop(0), ranking), self.bill + cost

    def ranking(self) -> Ranking:
        """The outcome."""
        return Ranking(self.candidates, tuple(self.order), self.bill)


class HasCost(Protocol):
    """A window that is ready to run."""

    @property
    def cost(self) -> tuple[int, int]:
        """Tokens of its prompt, and tokens that follow it."""
        ...


Q = TypeVar("Q", bound=SlidingQuery)
W = TypeVar("W", bound=HasCost)


def run_windows(
    queries: Sequence[Q],
    prepare: Callable[[Q], W],
    rank: Callable[[list[W]], Iterable[tuple[Sequence[int], Bill]]],
    budget: int,
) -> list[Ranking]:
    """Rank every window of every query; `prepare` makes a query's present window, `rank` ranks some of them together.

    At most `budget` tokens run together, padding included; a single window beyond it runs alone.
    """
    while waiting := [query for query in queries if query.spans]:
        ready = [prepare(query) for query in waiting]
        for group in batches([window.cost for window in ready], budget):
            outcomes = rank([ready[i] for i in group])
            for i, (ranking, cost) in zip(group, outcomes, strict=True):
                waiting[i].settle(ranking, cost)
    return [query.ranking() for query in queries]
