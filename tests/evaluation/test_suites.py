"""Suites: which queries, which candidates, and from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.evaluation.suites import Suite
from perank.records import Collection, Query, Run
from perank.sources.trec import TrecCollection, write_run
from support.small_suite import FIRST_STAGE, PASSAGES, QRELS, SmallCollection, small_suite


def test_candidates_are_the_best_of_the_first_stage_for_judged_queries():
    found = {c.query.id: [passage.id for passage in c.passages] for c in small_suite(depth=3).candidates()}
    # q3's tie goes to the higher id; q4 has no results; nobody judged the fifth query.
    assert found == {"q1": ["p1", "p2", "p3"], "q2": ["p5", "p4", "p3"], "q3": ["p2", "p1"]}


def test_the_first_stages_own_run_holds_just_the_candidates():
    run = small_suite(depth=2).first_stage_run
    assert run == {"q1": {"p1": 5.0, "p2": 4.0}, "q2": {"p5": 5.0, "p4": 4.0}, "q3": {"p2": 1.0, "p1": 1.0}}


def test_a_part_of_the_queries_comes_in_the_asked_order():
    assert [c.query.id for c in small_suite().candidates(["q3", "q4", "q1"])] == ["q3", "q1"]
    assert list(small_suite().qrels(["q4", "q2"])) == ["q4", "q2"]


def test_a_query_outside_the_suite_is_refused():
    with pytest.raises(BadInput, match="1 queries don't belong to the suite: unjudged"):
        small_suite().candidates(["q1", "unjudged"])


def test_candidates_are_made_once():
    suite = small_suite()
    assert suite.candidates()[0] is suite.candidates()[0]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path):
    suite = Suite("empty", TrecCollection(tmp_path), "no such run")
    assert suite.depth == 100


@given(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=30), st.integers(1, 30), st.randoms())
def test_a_sample_depends_on_the_query_ids_alone_and_grows_with_its_size(ids: set[str], size: int, random):
    shuffled = random.sample(sorted(ids), len(ids))

    def sample(order: Sequence[str], size: int) -> list[str]:
        collection = SmallCollection(
            qrels={id: {"p1": 1} for id in order}, queries={id: Query(id, "words") for id in order}
        )
        return small_suite(collection=collection, max_queries=size).query_ids

    taken = sample(sorted(ids), size)
    assert len(taken) == min(size, len(ids)) and taken == sorted(taken)
    assert sample(shuffled, size) == [id for id in shuffled if id in taken]
    assert set(taken) <= set(sample(shuffled, size + 1))


def test_a_sample_is_stated():
    assert small_suite(max_queries=2).note == "a sample of 2 of 4 judged queries, by hash of their ids"
    assert small_suite(max_queries=4).note == small_suite().note == ""


def test_a_first_stage_may_be_a_run_in_memory():
    assert small_suite(first_stage=FIRST_STAGE).first_stage_run == small_suite().first_stage_run


@pytest.mark.parametrize("as_text", [True, False])
def test_a_first_stage_may_be_a_run_file(tmp_path: Path, as_text: bool):
    path = tmp_path / "run.mine.trec"
    write_run(path, FIRST_STAGE, tag="mine")
    suite = small_suite(first_stage=str(path) if as_text else path)
    assert suite.first_stage_run == small_suite().first_stage_run
    assert suite.first_stage_name == "run.mine.trec"


def test_a_first_stage_may_be_a_retriever_which_searches_for_the_measured_queries_alone():
    asked: list[tuple[str, list[str], int | None]] = []

    class Retriever:
        def search(
            self, collection: Collection, queries: Sequence[Query] | None = None, depth: int | None = None
        ) -> Run:
            asked.append((collection.name, [query.id for query in queries or []], depth))
            return FIRST_STAGE

    suite = small_suite(first_stage=Retriever(), depth=2)
    assert suite.first_stage_run == small_suite(depth=2).first_stage_run
    suite.candidates()
    assert asked == [("small", list(QRELS), 2)]
    assert suite.labels == {"collection": "small", "first_stage": "Retriever", "candidates": 2}


def test_an_unknown_first_stage_is_refused_naming_the_ones_there_are():
    with pytest.raises(BadInput, match=r"no run 'dense'.*bm25"):
        small_suite(first_stage="dense").candidates()


def test_a_first_stage_for_other_queries_is_refused():
    with pytest.raises(BadInput, match="answers none of the 4 queries"):
        small_suite(first_stage={"other": {"p1": 1.0}}).candidates()


def test_judged_queries_without_text_are_refused_before_a_search():
    class Retriever:
        def search(self, collection: Collection, queries: Sequence[Query] | None = None, depth: int | None = None):
            raise AssertionError("searched")

    queries: Mapping[str, Query] = {"q9": Query("q9", "words")}
    with pytest.raises(BadInput, match="4 judged queries have no text: q1, q2, q3"):
        small_suite(first_stage=Retriever(), collection=SmallCollection(queries=queries)).candidates()


def test_a_run_with_passages_the_collection_lacks_is_refused():
    passages = {id: passage for id, passage in PASSAGES.items() if id != "p5"}
    with pytest.raises(BadInput, match="p5"):
        small_suite(collection=SmallCollection(passages=passages)).candidates()


@pytest.mark.parametrize(
    "wrong", [{"depth": 0}, {"max_queries": 0}, {"metrics": ["ndgc@10"]}, {"metrics": []}, {"binary_cutoff": 0}]
)
def test_settings_that_make_no_sense_are_refused_at_once(wrong: dict):
    with pytest.raises(BadInput):
        small_suite(**wrong)
