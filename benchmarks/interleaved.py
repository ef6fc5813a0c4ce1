"""Timing by turns: every round runs each contestant once, so a busy machine's moods fall on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds_by_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Name -> seconds of each round, after one unmeasured round; every other round goes in reverse order."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round in range(rounds + 1):
        names = list(contestants)[:: -1 if round % 2 else 1]
        for name in names:
            began = clock()
            contestants[name]()
            if round:
                seconds[name].append(clock() - began)
    return seconds


def speedup(baseline: list[float], other: list[float]) -> str:
    """How many times faster `other` is: the median of the rounds' ratios, and the extremes."""
    ratios = [a / b for a, b in zip(baseline, other, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
