"""Runs become candidates, rankings become runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.records import Candidates, Passage, Qrels, Query, Ranking, Run
from perank.sources.candidates import candidates_run, make_candidates


@dataclass(frozen=True)
class Toy:
    """Three queries, five passages."""

    queries: Mapping[str, Query] = field(
        default_factory=lambda: {i: Query(i, f"query {i}") for i in ("q2", "q1", "q3")}
    )
    passages: Mapping[str, Passage] = field(default_factory=lambda: {i: Passage(i, f"text {i}") for i in "abcde"})
    qrels: Qrels = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    name: str = "toy"


RUN: Run = {"q1": {"a": 0.1, "b": 0.9, "c": 0.9}, "q2": {"d": 5.0}, "other": {"unknown": 1.0}}


def test_candidates_come_in_the_collections_order_best_first_ties_by_id_descending() -> None:
    found = make_candidates(Toy(), RUN, depth=2)
    assert [(c.query.id, [p.id for p in c.passages], c.scores) for c in found] == [
        ("q2", ["d"], (5.0,)),
        ("q1", ["c", "b"], (0.9, 0.9)),
        ("q3", [], ()),
    ]


def test_chosen_queries_give_the_order() -> None:
    assert [c.query.id for c in make_candidates(Toy(), RUN, depth=9, query_ids=["q3", "q1"])] == ["q3", "q1"]
    assert make_candidates(Toy(), RUN, depth=9, query_ids=[]) == []


def test_an_unknown_passage_is_refused_with_both_ids() -> None:
    with pytest.raises(BadInput, match=r"id 'z'.*query 'q1'"):
        make_candidates(Toy(), {"q1": {"z": 1.0}}, depth=1)


def test_passages_below_the_depth_need_no_text() -> None:
    assert len(make_candidates(Toy(), {"q1": {"z": 1.0, "a": 2.0}}, depth=1)[1]) == 1


def test_an_unknown_query_a_foreign_run_and_no_depth_are_refused() -> None:
    with pytest.raises(BadInput, match="no such query"):
        make_candidates(Toy(), RUN, depth=1, query_ids=["q9"])
    with pytest.raises(BadInput, match="no query of toy"):
        make_candidates(Toy(), {"x": {"a": 1.0}}, depth=1)
    with pytest.raises(BadInput, match="at least 1"):
        make_candidates(Toy(), RUN, depth=0)


@given(st.permutations(range(5)))
def test_a_run_of_rankings_has_their_order(order: list[int]) -> None:
    candidates = Candidates(Query("q1", "x"), tuple(Toy().passages.values()))
    run = candidates_run([Ranking(candidates, tuple(order)), Ranking(Candidates(Query("q2", "y"), ()), ())])
    assert run["q2"] == {}
    again = make_candidates(Toy(), run, depth=5, query_ids=["q1"])[0]
    assert [p.id for p in again.passages] == ["abcde"[i] for i in order]
    assert again.scores == (5.0, 4.0, 3.0, 2.0, 1.0)


def test_a_query_or_passage_that_occurs_twice_is_refused() -> None:
    once = Candidates(Query("q1", "x"), (Passage("a", "t"),))
    with pytest.raises(BadInput, match="two rankings"):
        candidates_run([Ranking(once, (0,)), Ranking(once, (0,))])
    twice = Candidates(Query("q1", "x"), (Passage("a", "t"), Passage("a", "t")))
    with pytest.raises(BadInput, match="passage occurs twice"):
        candidates_run([Ranking(twice, (0, 1))])
