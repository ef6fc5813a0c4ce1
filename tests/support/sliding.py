"""Sliding windows over any function that ranks: the plain loop that rankers are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perank.ranking.windows import Span, apply


def slide(spans: Sequence[Span], n: int, rank: Callable[[Sequence[int], int], Sequence[int]]) -> list[int]:
    """Run windows over n candidates: `rank(candidate positions, depth)` -> permutation of them."""
    order = list(range(n))
    for span in spans:
        order = apply(order, span, rank(order[span.start : span.stop], span.depth))
    return order
