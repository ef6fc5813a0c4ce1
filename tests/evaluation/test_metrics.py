"""Metrics against plain Python, trec_eval's own outputs, and published runs; laws by hypothesis."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.evaluation.metrics import means, measure, parse_metric
from perank.records import Qrels, Run
from perank.sources.trec import read_qrels, read_run
from support.trec_eval_output import OUTPUTS, best_100, our_name, shortened, trec_eval_output

METRICS = ["ndcg", "ndcg@3", "mrr", "mrr@3", "map", "map@3", "recall", "recall@3", "precision@3", "success@3"]


def brute_force(metric: str, grades: dict[str, int], scores: dict[str, float], binary_cutoff: int) -> float:
    """The textbook definitions, written out in fp64."""
    family, _, cutoff = metric.partition("@")
    order = sorted(scores, key=lambda id: (scores[id], id), reverse=True)
    top = order[: int(cutoff)] if cutoff else order
    relevant = {id for id, grade in grades.items() if grade >= binary_cutoff}
    hits = [i for i, id in enumerate(top, start=1) if id in relevant]

    def discounted(gains: list[int]) -> float:
        return sum(max(gain, 0) / math.log2(i + 1) for i, gain in enumerate(gains, start=1))

    best = sorted(grades.values(), reverse=True)
    formulas: dict[str, Callable[[], float]] = {
        "ndcg": lambda: (
            discounted([grades.get(id, 0) for id in top]) / discounted(best[: int(cutoff)] if cutoff else best)
            if max(best) > 0
            else 0
        ),
        "mrr": lambda: 1 / hits[0] if hits else 0.0,
        "map": lambda: sum(n / i for n, i in enumerate(hits, start=1)) / len(relevant) if relevant else 0.0,
        "recall": lambda: len(hits) / len(relevant) if relevant else 0.0,
        "precision": lambda: len(hits) / int(cutoff),
        "success": lambda: float(bool(hits)),
    }
    return formulas[family]()


passage_ids = st.sampled_from([f"{name}{i}" for name in ("d", "é", "Z") for i in range(5)])
judgements = st.dictionaries(passage_ids, st.integers(-1, 3), min_size=1, max_size=12)
results = st.dictionaries(passage_ids, st.sampled_from([-1.5, 0.0, 0.25, 1.0, 2.0]), max_size=12)
query_ids = st.sampled_from(["q1", "q2", "q3"])


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(query_ids, judgements, min_size=1), st.dictionaries(query_ids, results), st.integers(1, 3))
def test_every_metric_is_the_textbook_formula_and_lies_between_0_and_1(qrels: Qrels, run: Run, binary_cutoff: int):
    run = {id: scores for id, scores in run.items() if id in qrels}
    measured = measure(qrels, run, METRICS, binary_cutoff=binary_cutoff)
    assert list(measured) == METRICS
    for metric, per_query in measured.items():
        assert list(per_query) == list(qrels)
        for id, score in per_query.items():
            expected = brute_force(metric, qrels[id], run.get(id, {}), binary_cutoff)
            assert score == pytest.approx(expected, abs=1e-12), metric
            assert 0 <= score <= 1 + 1e-12


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(query_ids, judgements, min_size=2), st.data())
def test_the_order_of_queries_passages_and_judgements_changes_nothing(qrels: Qrels, data: st.DataObject):
    run = {id: data.draw(results) for id in qrels}

    def shuffled(table: dict) -> dict:
        return {id: dict(data.draw(st.permutations(list(table[id].items())))) for id in reversed(table)}

    expected = measure(qrels, run, METRICS)
    measured = measure(shuffled(qrels), shuffled(run), METRICS)
    assert measured == expected
    assert means(measured) == means(expected)


@settings(deadline=None, max_examples=50)
@given(judgements, results)
def test_the_ideal_order_scores_1_and_no_order_beats_it(grades: dict[str, int], scores: dict[str, float]):
    ideal = {id: float(grade) for id, grade in grades.items()}
    best = measure({"q": grades}, {"q": ideal}, ["ndcg", "ndcg@3"])
    other = measure({"q": grades}, {"q": scores}, ["ndcg", "ndcg@3"])
    for metric in best:
        assert best[metric]["q"] == (pytest.approx(1) if max(grades.values()) > 0 else 0)
        assert other[metric]["q"] <= best[metric]["q"] + 1e-12


def test_ties_go_by_passage_id_descending():
    run = {"q": {"a": 1.0, "c": 1.0, "b": 1.0}}
    for relevant, rank in {"c": 1, "b": 2, "a": 3}.items():
        assert measure({"q": {relevant: 1}}, run, ["mrr"]) == {"mrr": {"q": pytest.approx(1 / rank)}}


def test_scores_that_fp32_cannot_tell_apart_are_ties():
    run = {"q": {"a": 1 + 1e-10, "b": 1.0}}
    assert measure({"q": {"a": 1}}, run, ["mrr"])["mrr"]["q"] == 0.5


def test_scores_beyond_fp32_still_rank():
    run = {"q": {"a": 1e300, "b": 2.0, "c": -1e300}}
    assert measure({"q": {"b": 1}}, run, ["mrr"])["mrr"]["q"] == 0.5


def test_a_judged_query_without_results_scores_0_unless_only_answered_queries_count():
    qrels, run = {"q1": {"a": 1}, "q2": {"a": 1}}, {"q1": {"a": 1.0}}
    assert measure(qrels, run, ["map"]) == {"map": {"q1": 1.0, "q2": 0.0}}
    assert measure(qrels, run, ["map"], complete=False) == {"map": {"q1": 1.0}}


def test_an_empty_run_scores_0():
    assert means(measure({"q": {"a": 1}}, {}, METRICS)) == dict.fromkeys(METRICS, 0.0)


def test_a_query_without_anything_relevant_counts_as_0():
    qrels = {"q1": {"a": 1}, "q2": {"a": 0}, "q3": {"a": -1}, "q4": {}}
    run = {id: {"a": 1.0} for id in qrels}
    assert means(measure(qrels, run, ["ndcg@10", "map"])) == {"ndcg@10": 0.25, "map": 0.25}


def test_binary_metrics_start_at_the_cutoff_and_ndcg_counts_every_grade():
    qrels, run = {"q": {"a": 1, "b": 2}}, {"q": {"a": 2.0, "b": 1.0}}
    measured = measure(qrels, run, ["mrr", "recall@1", "ndcg@1"], binary_cutoff=2)
    assert measured == {"mrr": {"q": 0.5}, "recall@1": {"q": 0.0}, "ndcg@1": {"q": 0.5}}


def test_queries_nobody_judged_are_left_out_and_counted_in_a_warning(caplog: pytest.LogCaptureFixture):
    run = {"q": {"a": 1.0}, "stranger": {"a": 1.0}}
    assert measure({"q": {"a": 1}}, run, ["map"]) == {"map": {"q": 1.0}}
    assert "1 queries of the run have no judgements" in caplog.text and "stranger" in caplog.text


def test_a_run_for_other_queries_is_refused_naming_some_of_both():
    with pytest.raises(BadInput, match=r"mine.*theirs"):
        measure({"mine": {"a": 1}}, {"theirs": {"a": 1.0}}, ["map"])


def test_no_queries_at_all_are_refused():
    with pytest.raises(BadInput, match="no query"):
        measure({}, {}, ["map"])


def test_a_score_that_is_not_a_number_is_refused_naming_query_and_passage():
    with pytest.raises(BadInput, match=r"id 'q'.*'broken'"):
        measure({"q": {"a": 1}}, {"q": {"a": 1.0, "broken": math.nan}}, ["map"])


@pytest.mark.parametrize(
    "name", ["ndgc@10", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@1.5", "ndcg@²", "precision", "", "@10"]
)
def test_metrics_the_house_does_not_know_are_refused(name: str):
    with pytest.raises(BadInput):
        measure({"q": {"a": 1}}, {"q": {"a": 1.0}}, [name])


def test_a_binary_cutoff_below_1_is_refused():
    with pytest.raises(BadInput, match="binary_cutoff is 0"):
        measure({"q": {"a": 1}}, {"q": {"a": 1.0}}, ["map"], binary_cutoff=0)


def test_metric_names_split_into_family_and_cutoff():
    assert parse_metric("recall@100") == ("recall", 100)
    assert parse_metric("map") == ("map", None)


@pytest.mark.parametrize(("output_name", "complete"), OUTPUTS.items())
def test_trec_evals_own_outputs_are_reproduced_to_4_decimals(shared: Path, output_name: str, complete: bool):
    folder = shared / "collections/metrics/trec_eval-tests"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    qrels, run = read_qrels(folder / "qrels.test"), read_run(folder / "results.test")
    expected = trec_eval_output(folder / f"out.test.{output_name}")
    if complete:
        run = shortened(run, trec_eval_output(folder / "out.test.aqc"))
    if output_name.endswith("M"):
        run = best_100(run)
    names = {name: ours for name, _ in expected if (ours := our_name(name))}
    per_query = measure(qrels, run, list(names.values()), complete=complete)
    summary = means(per_query)
    for name, metric in names.items():
        assert f"{summary[metric]:.4f}" == expected[name, "all"], name
        for id, score in per_query[metric].items():
            assert f"{score:.4f}" == expected[name, id], (name, id)


def test_published_runs_have_their_official_ndcg_at_10(shared: Path):
    folder = shared / "collections/runs"
    if not (folder / "expected_ndcg10.json").is_file():
        pytest.skip(f"no published runs under {folder}")
    qrels = {name: read_qrels(shared / f"collections/trecdl/{name}/qrels.txt") for name in ("dl19",)}
    for entry in json.loads((folder / "expected_ndcg10.json").read_text()):
        ours = means(measure(qrels[entry["dataset"]], read_run(folder / entry["file"]), ["ndcg@10"]))["ndcg@10"]
        official = entry["ndcg10_official_trec_eval"]
        assert f"{ours:.4f}" == f"{entry['ndcg10_recomputed' if official is None else 'ndcg10_official_trec_eval']:.4f}"


def test_bm25_on_dl19_has_the_papers_ndcg_at_10(shared: Path):
    folder = shared / "collections/trecdl/dl19"
    run = read_run(folder / "run.bm25.top100.trec")
    assert f"{means(measure(read_qrels(folder / 'qrels.txt'), run, ['ndcg@10']))['ndcg@10']:.4f}" == "0.5058"
