"""Rows from queries: every query once a pass, pools in turn, candidates and order as pool and teacher say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from perank.preparation.draw_rows import build_rows
from perank.records import Qrels, Query, Run
from perank.training.rows import RankRow

QUERIES = {f"q{i}": Query(f"q{i}", f"query {i}") for i in range(6)}
QRELS: Qrels = {f"q{i}": {f"p{i}": 1} for i in range(6)}


class Marked:
    """Candidates that name their pool; the positives it was told of are kept."""

    def __init__(self, name: str, size: int = 3, missing: Sequence[str] = ()) -> None:
        self.name, self.size, self.missing = name, size, missing
        self.positives: dict[str, list[str]] = {}

    def draw(self, query_id: str, positives: Sequence[str], rng: random.Random) -> list[str]:
        self.positives[query_id] = list(positives)
        if query_id in self.missing:
            return [f"{self.name}0"]
        return rng.sample([f"{self.name}{i}" for i in range(9)], self.size)


class LastFirst:
    """Prefers high ids."""

    def scores(self, query: Query, passage_ids: Sequence[str]) -> list[float]:
        return [float(id[1:]) for id in passage_ids]


def built(count: int, pools: Sequence[Marked], seed: int = 0) -> list[RankRow]:
    return list(build_rows(QUERIES, QRELS, pools, LastFirst(), count=count, seed=seed))


def test_every_pass_asks_every_query_once_and_in_an_order_of_its_own() -> None:
    rows = built(18, [Marked("a")])
    passes = [[row.query.id for row in rows[start : start + 6]] for start in (0, 6, 12)]
    assert all(sorted(one) == sorted(QUERIES) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_pools_take_turns_and_a_query_meets_them_all() -> None:
    rows = built(24, [Marked("a"), Marked("b")])
    counts = Counter(row.passage_ids[0][0] for row in rows)
    assert counts == {"a": 12, "b": 12}


def test_a_row_does_not_depend_on_how_many_there_are() -> None:
    pools = [Marked("a"), Marked("b")]
    assert built(7, pools) == built(20, pools)[:7]
    assert built(7, pools, seed=1) != built(7, pools)


def test_queries_for_which_a_pool_has_too_few_are_passed_over_and_none_left_ends_it() -> None:
    rows = built(10, [Marked("a", missing=["q0", "q1"])])
    assert len(rows) == 10
    assert not {row.query.id for row in rows} & {"q0", "q1"}
    assert built(10, [Marked("a", missing=list(QUERIES))]) == []


def test_pools_are_told_the_judged_passages_of_grade_one_and_more() -> None:
    pool = Marked("a")
    list(build_rows(QUERIES, {"q0": {"x": 2, "y": 0, "z": -1}}, [pool], LastFirst(), count=6))
    assert pool.positives["q0"] == ["x"]
    assert pool.positives["q1"] == []


def test_the_order_is_the_teachers() -> None:
    for row in built(6, [Marked("a")]):
        ranked = [row.passage_ids[i] for i in row.order]
        assert ranked == sorted(row.passage_ids, reverse=True)


def test_nothing_is_asked_of_an_empty_run() -> None:
    run: Run = {}
    assert run == {}
    assert built(0, [Marked("a")]) == []
