"""Timing by turns: every round runs each contestant once, so a busy machine's moods fall on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds_by_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    warm: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Name -> seconds of each round, after one unmeasured round; every other round goes in reverse order.

    `warm` is what runs in the unmeasured round, if not the same.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for name in contestants:
        (warm or contestants)[name]()
    for round in range(rounds):
        for name in list(contestants)[:: -1 if round % 2 else 1]:
            began = clock()
            contestants[name]()
            seconds[name].append(clock() - began)
    return seconds


def speedup(baseline: list[float], other: list[float]) -> str:
    """How many times faster `other` is: the median of the rounds' ratios, and the extremes."""
    ratios = [a / b for a, b in zip(baseline, other, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
