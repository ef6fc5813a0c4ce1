"""Sliding windows over any ranker: nothing lost, the top always ranked, and depth changes no rank anyone asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.ranking.windows import SlidingQuery, Span, Windows, apply, run_windows
from perank.records import Bill, Candidates, Passage, Query
from support.ranker_promises import arbitrary_ranker, check
from support.sliding import slide

configurations = st.integers(1, 12).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w)))


@given(n=st.integers(0, 60), ws=configurations, k=st.integers(1, 70), seed=st.integers(0, 9))
@settings(max_examples=300, deadline=None)
def test_every_configuration_keeps_its_promises(n: int, ws: tuple[int, int], k: int, seed: int) -> None:
    check(n, *ws, k, seed)


def test_every_small_configuration_keeps_its_promises() -> None:
    for n in range(14):
        for w in range(1, 7):
            for s in range(1, w + 1):
                for k in (1, 2, 3, 5, 8, 20):
                    check(n, w, s, k, seed=n + k)


@pytest.mark.parametrize(
    ("n", "count"), [(100, 9), (95, 9), (25, 2), (21, 2), (20, 1), (11, 1), (10, 1), (5, 1), (1, 1), (0, 0)]
)
def test_so_many_windows_of_20_with_a_step_of_10(n: int, count: int) -> None:
    assert len(Windows(20, 10).plan(n)) == count


def test_windows_go_from_the_last_to_the_first() -> None:
    # What the authors' code ranks for 37 candidates.
    assert [(span.start, span.stop) for span in Windows(20, 10).plan(37)] == [(17, 37), (7, 27), (0, 17)]


def test_a_cutoff_of_10_takes_half_of_each_window_of_20() -> None:
    spans = Windows(20, 10, cutoff=10).plan(100)
    assert [span.depth for span in spans] == [10] * 9
    assert [span.depth for span in Windows(20, 10).plan(100)] == [20] * 9


def test_the_simpler_rule_would_lose_ranks() -> None:
    # 25 candidates, cutoff 20: the last window [0, 15) must be whole and [5, 25) right up to rank 20.
    assert Windows(20, 10, cutoff=20).plan(25) == [Span(5, 25, 15), Span(0, 15, 15)]


def test_windows_without_overlap_that_cannot_reach_the_cutoff_are_left_out() -> None:
    assert Windows(20, 20, cutoff=10).plan(100) == [Span(0, 20, 10)]
    assert [span.start for span in Windows(20, 20, cutoff=25).plan(100)] == [20, 0]


@pytest.mark.parametrize(("w", "s"), [(10, 11), (10, 0), (0, 0), (10, -1)])
def test_a_step_that_leaves_passages_out_is_refused(w: int, s: int) -> None:
    with pytest.raises(BadInput, match="step"):
        Windows(w, s)


def test_a_cutoff_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="cutoff"):
        Windows(cutoff=0)


def test_only_permutations_are_applied() -> None:
    assert apply([5, 6, 7, 8], Span(1, 3, 2), (1, 0)) == [5, 7, 6, 8]
    for wrong in ((0, 0), (0,), (1, 2)):
        with pytest.raises(ValueError, match="permutation"):
            apply([5, 6, 7, 8], Span(1, 3, 2), wrong)


@dataclass(frozen=True)
class Shown:
    """A window as a ranker of positions sees it."""

    positions: list[int]
    depth: int
    cost: tuple[int, int]


@given(sizes=st.lists(st.integers(0, 25), max_size=5), ws=configurations, budget=st.integers(1, 100))
@settings(deadline=None)
def test_queries_that_run_together_are_ranked_as_each_by_itself(
    sizes: list[int], ws: tuple[int, int], budget: int
) -> None:
    rank, windows, most = arbitrary_ranker(3), Windows(*ws), list[int]()
    found = [Candidates(Query(str(n), "sea"), tuple(Passage(str(i), "") for i in range(n))) for n in sizes]

    def prepare(query: SlidingQuery) -> Shown:
        return Shown(query.positions, query.spans[0].depth, (len(query.positions), 1))

    def rank_all(group: list[Shown]) -> list[tuple[Sequence[int], Bill]]:
        most.append(len(group) * max(sum(one.cost) for one in group) if len(group) > 1 else 0)
        return [(rank(one.positions, one.depth), Bill(forwards=1)) for one in group]

    rankings = run_windows([SlidingQuery(one, windows) for one in found], prepare, rank_all, budget)
    assert [ranking.candidates for ranking in rankings] == found
    for n, ranking in zip(sizes, rankings, strict=True):
        assert list(ranking.order) == slide(windows.plan(n) if n > 1 else [], n, rank)
        assert ranking.bill.forwards == (len(windows.plan(n)) if n > 1 else 0)
    assert max(most, default=0) <= budget


def test_an_empty_query_is_refused_by_id() -> None:
    with pytest.raises(BadInput, match=r"'q7'.*empty"):
        SlidingQuery(Candidates(Query("q7", " "), ()), Windows())
