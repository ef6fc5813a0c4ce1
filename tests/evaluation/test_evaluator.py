"""Ranking a suite and measuring it: the same scores whoever ranks which part, and nothing lost on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.evaluation import evaluate_ranker, evaluate_run
from perank.evaluation.attempts import rank_each
from perank.evaluation.suites import Suite
from perank.records import Bill, Candidates, Ranking
from perank.sources.candidates import candidates_run
from perank.sources.trec import TrecCollection, read_run
from support.small_suite import FIRST_STAGE, Keeping, Reversing, small_suite

# By hand: reversed, q1 is p4 p3 p2 p1 with grades 2 0 0 1, of q2's p3 p4 p5 the first has grade 1 while a 3 is missing,
# q3 is p1 p2 with grades 1 0, and q4 has nothing.
REVERSED_NDCG = {
    "q1": (2 + 1 / math.log2(5)) / (2 + 1 / math.log2(3)),
    "q2": 1 / (3 + 1 / math.log2(3)),
    "q3": 1.0,
    "q4": 0.0,
}


def test_scores_runs_and_bills_are_those_of_the_rankings():
    evaluation = evaluate_ranker(Reversing(), small_suite(), progress=False)
    assert evaluation.system == "Reversing" and evaluation.suite == "small"
    assert evaluation.run["q2"] == {"p3": 3.0, "p4": 2.0, "p5": 1.0}
    assert evaluation.per_query["ndcg@10"] == pytest.approx(REVERSED_NDCG)
    assert evaluation.per_query["mrr"] == {"q1": 1.0, "q2": 1.0, "q3": 1.0, "q4": 0.0}
    assert evaluation.means == {"ndcg@10": pytest.approx(sum(REVERSED_NDCG.values()) / 4), "mrr": 0.75}
    assert evaluation.n_queries == 4
    assert evaluation.bill == Bill(9, 90, 9)
    assert evaluation.costs["forwards_per_query"] == 3 and evaluation.costs["tokens_processed"] == 30
    assert evaluation.costs["seconds_per_query"] > 0
    assert evaluation.note == "1 queries without results score 0"


def test_only_candidates_are_ranked_and_measured():
    evaluation = evaluate_ranker(Reversing(), small_suite(depth=1), progress=False)
    assert {id: list(scores) for id, scores in evaluation.run.items()} == {"q1": ["p1"], "q2": ["p5"], "q3": ["p2"]}


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (16, [3])])
def test_batches_have_the_asked_size_and_change_nothing(batch_size: int, sizes: list[int]):
    ranker = Reversing()
    evaluation = evaluate_ranker(ranker, small_suite(), batch_size=batch_size, progress=False)
    assert ranker.sizes == sizes
    assert evaluation.per_query["ndcg@10"] == pytest.approx(REVERSED_NDCG)


def test_keeping_the_order_measures_as_the_first_stages_own_run():
    suite = small_suite()
    kept = evaluate_ranker(Keeping(), suite, progress=False)
    assert kept.per_query == evaluate_run(suite.first_stage_run, suite).per_query
    assert kept.compare(evaluate_run(FIRST_STAGE, suite)).p == 1.0


def test_shares_of_devices_gathered_give_what_one_process_gives():
    suite = small_suite()
    shares = [rank_each(Reversing(), suite.candidates(suite.query_ids[i::3]), progress=False) for i in range(3)]
    rankings = [ranking for share in shares for ranking in share.rankings]
    bills = {ranking.candidates.query.id: ranking.bill for ranking in rankings}
    gathered = evaluate_run(candidates_run(rankings), suite, bills=bills)
    alone = evaluate_ranker(Reversing(), suite, progress=False)
    assert gathered.per_query == alone.per_query
    assert (gathered.bill, gathered.run) == (alone.bill, alone.run)


def test_a_device_without_queries_ranks_nothing():
    assert rank_each(Reversing(), [], progress=False).rankings == []


def test_a_part_of_the_queries_is_ranked_and_measured_alone():
    evaluation = evaluate_ranker(Reversing(), small_suite(), query_ids=["q2"], progress=False)
    assert evaluation.per_query["ndcg@10"] == pytest.approx({"q2": REVERSED_NDCG["q2"]})


def test_queries_of_a_run_outside_the_suite_are_counted_in_the_note():
    evaluation = evaluate_run(FIRST_STAGE, small_suite(max_queries=2))
    assert evaluation.n_queries == 2
    assert "2 of 4 judged queries" in evaluation.note and "queries of the run are not measured" in evaluation.note


def test_a_run_for_another_collection_is_refused():
    with pytest.raises(BadInput, match="answers none of the judged queries of small, but other"):
        evaluate_run({"other": {"p1": 1.0}}, small_suite())


def test_a_ranker_that_mixes_queries_up_is_caught():
    class Mixing(Reversing):
        def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
            return super().rank_batch(batch)[::-1]

    with pytest.raises(RuntimeError, match="Mixing returned rankings of other queries"):
        evaluate_ranker(Mixing(), small_suite(), progress=False)


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture):
    evaluate_ranker(Reversing(), small_suite(), progress=True)
    assert "3/3" in capsys.readouterr().err


def test_bm25_reaches_its_published_ndcg_on_dl19_through_a_suite(shared: Path):
    suite = Suite("dl19", TrecCollection(shared / "collections/trecdl/dl19"), "bm25", binary_cutoff=2)
    kept = evaluate_ranker(Keeping(), suite, progress=False)
    assert f"{kept.means['ndcg@10']:.4f}" == "0.5058"
    assert kept.per_query == evaluate_run(suite.first_stage_run, suite).per_query


def test_a_published_reranking_reaches_its_official_value_through_a_suite(shared: Path):
    name = "BM25__output_v2_aug_vicuna_7b_4096_100_PromptMode.RANK_GPT_dl19_2023-09-13T163610.051205.txt"
    path = shared / "collections/runs" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    suite = Suite("dl19", TrecCollection(shared / "collections/trecdl/dl19"), "bm25", metrics=["ndcg@10"])
    assert f"{evaluate_run(read_run(path), suite).means['ndcg@10']:.4f}" == "0.6682"
