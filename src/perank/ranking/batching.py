"""Group windows or text pairs into batches with a bound on tokens, padding included."""

from __future__ import annotations

from collections.abc import Sequence


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
