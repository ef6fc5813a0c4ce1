"""Sliding windows over more candidates than fit in one prompt, from the last to the first, each passing its best on.

Pure: no model, no torch. A window [a, b) needs only the ranks that are used later: the next window
[.., b_next) reads the first b_next - a of them, in their order, and a cutoff k the first min(k, b) - a. The rest of
its order is never used. (The simpler `w - s` is wrong for cutoffs and if the top window is short.)

Windows of one query run in sequence; those of different queries are independent and run together, in batches with a
bound on tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from perank.errors import BadInput
from perank.ranking.inputs import check_query, whole_number
from perank.records import Bill, Candidates, Passage, Ranking


@dataclass(frozen=True, slots=True)
class Span:
    """One window: positions [start, stop) of the current order; only its first `depth` ranks are used."""

    start: int
    stop: int
    depth: int

    @property
    def size(self) -> int:
        """The number of passages."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of `window` passages that move up by `step`.

    With a `cutoff` only the first `cutoff` ranks equal those of full rankings. Raises `BadInput` for a step above the
    window or below 1, for a cutoff below 1, and for anything but whole numbers.
    """

    window: int = 20
    step: int = 10
    cutoff: int | None = None

    def __post_init__(self) -> None:
        for name in ("window", "step", "cutoff"):
            if (value := getattr(self, name)) is not None or name != "cutoff":
                object.__setattr__(self, name, whole_number(value, name))
        if not 1 <= self.step <= self.window:
            raise BadInput(
                f"a window of {self.window} with a step of {self.step} leaves passages out",
                remedy="choose a step between 1 and the window",
            )
        if self.cutoff is not None and self.cutoff < 1:
            raise BadInput(f"a cutoff of {self.cutoff}", remedy="give the number of ranks wanted, or none for all")

    def plan(self, n: int) -> list[Span]:
        """The windows for n candidates in running order, except those that can't affect the cutoff."""
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
    """Return `order` with [start, stop) reordered by `ranking`. Raises `ValueError` unless that is a permutation."""
    part = order[span.start : span.stop]
    if sorted(ranking) != list(range(len(part))):
        raise ValueError(f"not a permutation of {len(part)} positions: {ranking}")
    return [*order[: span.start], *(part[i] for i in ranking), *order[span.stop :]]


class SlidingQuery:
    """A query, the order of its candidates, and the remaining windows `spans`. Raises what `check_query` raises."""

    def __init__(self, candidates: Candidates, windows: Windows) -> None:
        check_query(candidates.query)
        self.candidates, self.text, self.bill = candidates, candidates.query.text, Bill()
        self.order = list(range(len(candidates)))
        self.spans = windows.plan(len(candidates)) if len(candidates) > 1 else []  # one passage needs no model

    @property
    def positions(self) -> list[int]:
        """The candidates in the current window, in their current order."""
        return self.order[self.spans[0].start : self.spans[0].stop]

    @property
    def passages(self) -> list[Passage]:
        """The passages in the current window."""
        return [self.candidates.passages[position] for position in self.positions]

    def settle(self, ranking: Sequence[int], cost: Bill) -> None:
        """Apply the current window's ranking, a permutation of its positions, and advance to the next window."""
        self.order, self.bill = apply(self.order, self.spans.pop(0), ranking), self.bill + cost

    def ranking(self) -> Ranking:
        """The final ranking and its cost."""
        return Ranking(self.candidates, tuple(self.order), self.bill)


class HasCost(Protocol):
    """A window that is ready to run."""

    @property
    def cost(self) -> tuple[int, int]:
        """Tokens of its prompt, and tokens after it."""
        ...


Q = TypeVar("Q", bound=SlidingQuery)
W = TypeVar("W", bound=HasCost)


def run_windows(
    queries: Sequence[Q],
    prepare: Callable[[Q], W],
    rank: Callable[[list[W]], Iterable[tuple[Any, ...]]],
    budget: int,
) -> list[Ranking]:
    """Rank every window of every query; `prepare` builds a query's current window, `rank` ranks a batch of
    them and returns what `settle` takes.

    A batch has at most `budget` tokens, padding included; a larger window runs alone.
    """
    while waiting := [query for query in queries if query.spans]:
        run_wave(waiting, prepare, rank, budget)
    return [query.ranking() for query in queries]


def run_wave(
    queries: Sequence[Q],
    prepare: Callable[[Q], W],
    rank: Callable[[list[W]], Iterable[tuple[Any, ...]]],
    budget: int,
) -> None:
    """Rank the current window of each query, none of which is finished; arguments as in `run_windows`."""
    ready = [prepare(query) for query in queries]
    for group in batches([window.cost for window in ready], budget):
        outcomes = rank([ready[i] for i in group])
        for i, outcome in zip(group, outcomes, strict=True):
            queries[i].settle(*outcome)


def batches(costs: Sequence[tuple[int, int]], budget: int) -> list[list[int]]:
    """Group positions so that (members x the largest sum of tokens) stays within `budget`.

    `costs` are (tokens of the prompt, tokens that follow it). Members of a group are of similar length; one that
    exceeds the budget runs alone.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], i), reverse=True)
    groups: list[list[int]] = []
    longest = 0
    for i in order:
        longest = max(longest, sum(costs[i]))
        if groups and longest * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(i)
        else:
            groups.append([i])
            longest = sum(costs[i])
    return groups
