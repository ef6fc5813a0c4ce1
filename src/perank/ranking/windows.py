"""Sliding windows over more candidates than one prompt takes: from the last to the first, each carrying its best on.

Pure: no model, no torch. A window [a, b) needs only the ranks that somebody will look at: the next window
[.., b_next) reads the first b_next - a of them, in their order, and a cutoff k the first min(k, b) - a. The rest of
its order is nobody's input. (The simpler `w - s` is wrong for cutoffs and where the top window is short.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perank.errors import BadInput


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
