"""Where candidates come from: a run's top, or draws over its whole depth."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from perank.preparation.pools import LogUniform, TopK
from perank.records import Run, rank_order

RUN: Run = {"q": {f"p{i:03d}": float(-i) for i in range(300)}, "short": {"a": 1.0, "b": 2.0}}


def test_the_top_is_the_runs_own_order_and_a_query_it_does_not_know_has_none() -> None:
    pool = TopK(RUN, 3)
    assert pool.draw("q", ["p200"], random.Random(0)) == ["p000", "p001", "p002"]
    assert pool.draw("short", [], random.Random(0)) == ["b", "a"]
    assert pool.draw("none", [], random.Random(0)) == []


@given(
    depth=st.integers(0, 40),
    n=st.integers(1, 20),
    positives=st.lists(st.sampled_from(["p0", "p3", "x", "y"]), unique=True),
    seed=st.integers(0, 9),
)
def test_draws_are_distinct_hold_a_positive_and_are_as_many_as_there_are(
    depth: int, n: int, positives: list[str], seed: int
) -> None:
    run: Run = {"q": {f"p{i}": float(-i) for i in range(depth)}}
    drawn = LogUniform(run, n).draw("q", positives, random.Random(seed))
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(run["q"]) | set(positives)
    assert sum(id in positives and id not in run["q"] for id in drawn) <= 1
    if positives:
        assert drawn[0] in positives
    least = len(set(run["q"]) | set(drawn[:1] if positives else []))
    assert len(drawn) == min(n, least)
    assert LogUniform(run, n).draw("q", positives, random.Random(seed)) == drawn


def test_half_of_the_draws_lie_above_the_geometric_middle() -> None:
    pool, counts = LogUniform(RUN, 2), Counter[bool]()
    place = {id: rank for rank, id in enumerate(rank_order(RUN["q"]), start=1)}
    for seed in range(4000):
        first, *_ = pool.draw("q", [], random.Random(seed))
        counts[place[first] <= 301**0.5] += 1
    assert abs(counts[True] / 4000 - 0.5) < 0.04
