"""What `perank.ranking.windows` promises for one configuration, held against windows written down a second time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache

from perank.ranking.windows import Windows
from support.sliding import slide

Rank = Callable[[Sequence[int], int], Sequence[int]]
_DRAWN = 251  # permutations of each length, of which a ranker picks one by what it is shown


def arbitrary_ranker(seed: int) -> Rank:
    """Its order depends on all it is shown and on the order it is shown in; below `depth` it is garbage."""

    def rank(shown: Sequence[int], depth: int) -> Sequence[int]:
        order = _permutations(len(shown))[hash((seed, *shown)) % _DRAWN]
        return [*order[:depth], *order[:depth - 1:-1]] if depth else order[::-1]  # fmt: skip

    return rank


@cache
def _permutations(n: int) -> list[list[int]]:
    dice = random.Random(n)
    return [dice.sample(range(n), n) for _ in range(_DRAWN)]


def brute_force(n: int, w: int, s: int, rank: Rank) -> list[int]:
    """Whole windows from the end of the list to its top, each carrying its best on."""
    order, stop = list(range(n)), n
    while stop > 0:
        start = max(stop - w, 0)
        shown = order[start:stop]
        order[start:stop] = [shown[i] for i in rank(shown, len(shown))]
        stop = stop - s if start > 0 else 0
    return order


def check(n: int, w: int, s: int, k: int, seed: int) -> int:
    """All that is promised for n candidates, a window of w, a step of s and a cutoff of k; how many windows it took."""
    rank, whole, cut = arbitrary_ranker(seed), Windows(w, s).plan(n), Windows(w, s, k).plan(n)
    full, top, expected = slide(whole, n, rank), slide(cut, n, rank), brute_force(n, w, s, rank)
    assert full == expected
    assert top[:k] == expected[:k]
    everyone = list(range(n))
    assert sorted(top) == sorted(full) == everyone
    assert {i for span in whole for i in range(span.start, span.stop)} == set(everyone)
    assert all(0 < span.depth <= span.stop - span.start <= w for span in cut)
    assert not n or whole[-1].start == cut[-1].start == 0
    return len(whole) + len(cut)
