"""Evaluations on disk: whole or unchanged, and read back as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.result import Evaluation, read_per_query
from perank.records import Bill
from perank.sources.trec import read_run
from support.small_suite import FIRST_STAGE, Keeping, Reversing, small_suite


@pytest.fixture
def reversing() -> Evaluation:
    return evaluate_ranker(Reversing(), small_suite(), progress=False)


@pytest.fixture
def bm25() -> Evaluation:
    return evaluate_run(FIRST_STAGE, small_suite(), system="BM25, k1 0.9")


def test_the_saved_run_and_scores_per_query_read_back_as_they_were(tmp_path: Path, reversing: Evaluation):
    reversing.save(tmp_path)
    assert read_run(tmp_path / "small.Reversing.trec") == reversing.run
    columns = read_per_query(tmp_path / "small.Reversing.per_query.tsv")
    assert {metric: columns[metric] for metric in reversing.per_query} == reversing.per_query
    assert columns["forwards"] == {"q1": 3, "q2": 3, "q3": 3}
    assert columns["tokens_processed"] == {"q1": 40, "q2": 30, "q3": 20}


def test_metrics_json_keeps_one_entry_a_system_and_suite(tmp_path: Path, reversing: Evaluation, bm25: Evaluation):
    for _ in range(2):
        bm25.save(tmp_path)
        reversing.save(tmp_path, against=[bm25])
    entries = json.loads((tmp_path / "metrics.json").read_text())
    assert list(entries) == ["small/BM25, k1 0.9", "small/Reversing"]
    entry = entries["small/Reversing"]
    assert entry["means"] == reversing.means and entry["n_queries"] == 4
    assert entry["collection"] == "small" and entry["first_stage"] == "bm25" and entry["candidates"] == 100
    assert entry["p_values"]["BM25, k1 0.9"]["mrr"] == reversing.compare(bm25, "mrr").p
    assert entries["small/BM25, k1 0.9"]["costs"] == {}


def test_file_names_hold_no_blanks_or_slashes(tmp_path: Path, bm25: Evaluation):
    bm25.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "small.BM25_k1_0.9.per_query.tsv",
        "small.BM25_k1_0.9.trec",
    ]


def test_two_systems_with_the_same_file_names_are_refused(tmp_path: Path):
    evaluate_run(FIRST_STAGE, small_suite(), system="a b").save(tmp_path)
    with pytest.raises(BadInput, match="a b"):
        evaluate_run(FIRST_STAGE, small_suite(), system="a/b").save(tmp_path)


def test_one_query_is_no_test_but_can_be_saved(tmp_path: Path):
    one, other = (evaluate_ranker(ranker, small_suite(), query_ids=["q1"]) for ranker in (Reversing(), Keeping()))
    assert one.p_value(other) is None
    one.save(tmp_path, against=[other])
    assert json.loads((tmp_path / "metrics.json").read_text())["small/Reversing"]["p_values"]["Keeping"]["mrr"] is None


def test_comparing_a_metric_that_one_side_lacks_is_refused(reversing: Evaluation):
    with pytest.raises(BadInput, match="only ndcg@10, mrr"):
        reversing.compare(reversing, "map")


def test_comparing_other_queries_is_refused(reversing: Evaluation):
    sampled = evaluate_ranker(Keeping(), small_suite(max_queries=2), progress=False)
    with pytest.raises(BadInput, match="same queries"):
        reversing.compare(sampled)


STRANGE = ["query\tmap\nq1\t1\nq1\t1\n", "query\tmap\tmap\nq1\t1\t1\n", "query\tmap\nq1\tnan\n", "query\tmap\n\t1\n"]


@pytest.mark.parametrize(
    "text", ["", "id\tmap\n", "query\tmap\nq1\n", "query\tmap\nq1\tx\n", "query\tmap\nq1\t1\t2\n", *STRANGE]
)
def test_a_broken_file_of_scores_per_query_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "x.per_query.tsv"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"x\.per_query\.tsv"):
        read_per_query(path)


def test_a_broken_metrics_json_is_refused_and_left_alone(tmp_path: Path, reversing: Evaluation):
    path = tmp_path / "metrics.json"
    for broken in ("{", "[]"):
        path.write_text(broken)
        with pytest.raises(BadInput, match=r"metrics\.json"):
            reversing.save(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
        assert path.read_text() == broken


def test_repairs_and_dollars_are_costs_where_somebody_paid_them(reversing: Evaluation) -> None:
    assert not {"repairs", "texts_shortened", "dollars"} & reversing.costs.keys()
    paid = replace(reversing, bills={"q1": Bill(repairs=3, dollars=0.5), "q2": Bill(repairs=1)})
    assert (paid.costs["repairs"], paid.costs["dollars"]) == (2.0, 0.25)
