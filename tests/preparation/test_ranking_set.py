"""A ranking set: every query's candidates in the teacher's order, block by block, and what is left out is counted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.preparation.drawn_rows import RowSources
from perank.preparation.ranking_set import RankingSet, sampled
from perank.preparation.resumable import Resumable
from perank.preparation.set_statistics import kendall_tau, spread
from perank.preparation.teachers import RankerTeacher
from perank.records import Candidates, Query, Ranking, Run
from perank.training.rows import read_rows
from support.fake_encoders import InMemory, collection

TEXTS = {f"p{i}": "word " * (i + 1) for i in range(9)}
ASKED = replace(
    collection(TEXTS, {f"q{i}": f"query {i}" for i in range(7)}), qrels={"q0": {"p3": 1}, "q1": {"p0": 2, "p1": 1}}
)


class Turned:
    """A first stage whose order begins with another passage for every query; q6 finds one passage only."""

    def __init__(self) -> None:
        self.searched: list[str] = []

    def search(self, collection: InMemory, queries: Sequence[Query] | None = None, depth: int | None = None) -> Run:
        self.searched += [query.id for query in queries or ()]
        return {query.id: self._found(int(query.id[1:]), depth or 1) for query in queries or ()}

    def _found(self, number: int, depth: int) -> dict[str, float]:
        ids = [f"p{(number + i) % 9}" for i in range(1 if number == 6 else depth)]
        return {id: float(-rank) for rank, id in enumerate(ids)}


class Backwards:
    """A teacher that turns every list around."""

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        return [Ranking(candidates, tuple(reversed(range(len(candidates))))) for candidates in batch]


def made(
    folder: Path, lengths: Any = None, first_stage: Any = None, **settings: Any
) -> tuple[list[Any], dict[str, Any]]:
    maker = RankingSet(**{"candidates": 4, "block": 3, "max_tokens": None, **settings})
    parts, queries = Resumable(folder / "rows.jsonl", "print"), list(ASKED.queries.values())
    unused: Any = None
    sources = RowSources(
        collection=ASKED, first_stage=first_stage or Turned(), query_vectors=unused, open_store=unused, depth=4
    )
    statistics = maker.make(sources, RankerTeacher(ranker=Backwards), queries, parts, lengths, progress=False)
    return read_rows(parts.output), statistics


def test_rows_hold_the_retrieved_candidates_in_the_teachers_order(tmp_path: Path) -> None:
    rows, counts = made(tmp_path)
    assert [row.query.id for row in rows] == ["q0", "q1", "q2", "q3", "q4", "q5"]
    for number, row in enumerate(rows):
        retrieved = [f"p{(number + i) % 9}" for i in range(4)]
        assert sorted(row.passage_ids) == sorted(retrieved)
        assert [row.passage_ids[i] for i in row.order] == retrieved[::-1]
    assert (counts["queries"], counts["too_few_candidates"], counts["rows"]) == (7, 1, 6)
    assert counts["kendall_tau"]["mean"] == -1.0
    assert counts["candidates"] == {"mean": round(25 / 7, 6), "min": 1.0, "median": 4.0, "p95": 4.0, "max": 4.0}


def test_the_orders_say_which_prompt_orders_a_query_gives(tmp_path: Path) -> None:
    both, _ = made(tmp_path, orders=["retrieved", "shuffled"])
    assert both[0].passage_ids == ("p0", "p1", "p2", "p3")
    assert both[0].order == (3, 2, 1, 0)
    assert len(both) == 12
    alone, _ = made(tmp_path / "alone", orders=["shuffled"])
    assert alone == both[1::2]
    assert any(row.passage_ids != both[2 * i].passage_ids for i, row in enumerate(alone))
    assert made(tmp_path / "seed", seed=1)[0] != alone


def test_judged_passages_come_first_if_asked_for_and_the_teachers_order_stays_among_equals(tmp_path: Path) -> None:
    rows, counts = made(tmp_path, judged_first=True, orders=["retrieved"])
    ranked = [[row.passage_ids[i] for i in row.order] for row in rows]
    assert ranked[0] == ["p3", "p2", "p1", "p0"]
    assert ranked[1] == ["p1", "p4", "p3", "p2"]  # p0 isn't among q1's candidates
    assert counts["queries_with_a_relevant_candidate"] == 2
    assert counts["relevant_first"] == {"teacher": 1.0, "first_stage": 0.5}


def test_rows_of_as_many_tokens_as_the_limit_are_left_out_and_counted(tmp_path: Path) -> None:
    together = []

    def words(batch: Sequence[Candidates]) -> list[int]:
        together.append(len(batch))
        return [sum(len(passage.text.split()) for passage in candidates.passages) for candidates in batch]

    rows, counts = made(tmp_path, words, max_tokens=18, batch_size=2)
    assert together == [2, 1, 2, 1]  # blocks of three queries, whose last has one candidate only and isn't counted
    expected = [n for n in range(6) if sum((n + i) % 9 + 1 for i in range(4)) < 18]
    assert [row.query.id for row in rows] == [f"q{n}" for n in expected]
    assert counts["too_long"] == 6 - len(expected)
    assert counts["tokens"]["max"] == 30.0
    with pytest.raises(BadInput, match="6 are too long, 1 have too few"):
        made(tmp_path / "none", words, max_tokens=1)
    assert not (tmp_path / "none" / "rows.jsonl").exists()


@pytest.mark.parametrize("missing", [[0], [1], [0, 2], []])
def test_blocks_that_are_there_are_not_made_again_and_the_end_is_the_same(tmp_path: Path, missing: list[int]) -> None:
    made(tmp_path)
    whole = (tmp_path / "rows.jsonl").read_bytes()
    for number in missing:
        (tmp_path / ".rows.jsonl.print" / f"rows-{number:05d}.json").unlink()
    first_stage = Turned()
    made(tmp_path, first_stage=first_stage)
    assert (tmp_path / "rows.jsonl").read_bytes() == whole
    assert first_stage.searched == [f"q{i}" for i in range(7) if i // 3 in missing]


@given(block=st.integers(1, 8))
def test_rows_do_not_depend_on_the_size_of_blocks(tmp_path_factory: pytest.TempPathFactory, block: int) -> None:
    rows, counts = made(tmp_path_factory.mktemp("rows"), block=block)
    assert (rows, counts) == made(tmp_path_factory.mktemp("rows"), block=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"orders": []},
        {"orders": ["sorted"]},
        {"orders": ["shuffled", "shuffled"]},
        {"candidates": 1},
        {"block": 0},
        {"minimum": 1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        RankingSet(**settings)
    assert caught.value.id == f"preparation.{next(iter(settings))}"


@given(limit=st.integers(1, 12), seed=st.integers(0, 3))
def test_a_sample_keeps_the_order_and_smaller_ones_lie_in_larger_ones(limit: int, seed: int) -> None:
    queries = [Query(str(i), "x") for i in range(10)]
    kept = sampled(queries, limit, seed)
    assert len(kept) == min(limit, 10)
    assert kept == [query for query in queries if query in kept]
    assert {query.id for query in kept} <= {query.id for query in sampled(queries, limit + 1, seed)}


def test_kendalls_tau_is_one_minus_twice_the_share_of_inverted_pairs() -> None:
    for order in ([0, 1, 2], [2, 0, 3, 1], [4, 3, 2, 1, 0], [1, 0]):
        pairs = list(combinations(order, 2))
        assert kendall_tau(order) == pytest.approx(1 - 2 * sum(a > b for a, b in pairs) / len(pairs))
    assert kendall_tau([0]) == 1.0


def test_a_spread_is_by_nearest_rank() -> None:
    values = [float(value) for value in random.Random(0).choices(range(50), k=37)]
    ranked = sorted(values)
    for name, rank in {"min": 1, "median": 19, "p95": 36, "max": 37}.items():  # of 37: 18.5 and 35.15, rounded up
        assert spread(values)[name] == ranked[rank - 1]
    assert spread(values)["mean"] == pytest.approx(sum(values) / 37, abs=1e-6)
    assert spread([]) == {}
