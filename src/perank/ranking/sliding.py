"""Queries on their way through their windows: what every ranker that slides a window keeps, and the loop over it.

Windows of one query follow each other; those of different queries run together, and none depends on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from perank.errors import BadInput
from perank.ranking.batching import batches
from perank.ranking.windows import Windows, apply
from perank.records import Bill, Candidates, Passage, Ranking


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
