"""Judgements, ids and corpora that don't belong together: an error where nothing fits, a count where some don't."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.suites import Suite
from perank.preparation.drawn_rows import _with_text
from perank.records import Passage, Query, Run
from perank.retrieval.bm25 import Bm25
from perank.sources.beir import BeirCollection
from perank.sources.texts import read_passages, read_queries
from perank.sources.trec import read_qrels
from support.small_suite import FIRST_STAGE, PASSAGES, QRELS, Keeping, SmallCollection, small_suite

HEADER = "query-id\tcorpus-id\tscore\n"


def beir(folder: Path, texts: dict[str, str], queries: dict[str, str], judged: str) -> BeirCollection:
    (folder / "qrels").mkdir(parents=True)
    for name, rows in {"corpus": texts, "queries": queries}.items():
        lines = [json.dumps({"_id": id, "text": text}) for id, text in rows.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "qrels" / "test.tsv").write_text(HEADER + judged)
    return BeirCollection(folder)


def renamed(prefix: str) -> dict[str, dict[str, int]]:
    return {query: {prefix + id: grade for id, grade in grades.items()} for query, grades in QRELS.items()}


def test_judgements_of_another_version_of_the_corpus_are_refused_before_anything_is_ranked() -> None:
    suite = small_suite(collection=SmallCollection(qrels=renamed("v2-")))
    with pytest.raises(BadInput, match="none of the 4 relevant passages is in the corpus, for example 'v2-p4'"):
        suite.check()


def test_judgements_of_passages_that_are_missing_are_counted_in_the_note() -> None:
    suite = small_suite(collection=SmallCollection(qrels=QRELS | {"q3": {"gone": 1}}))
    assert "1 of 5 relevant passages are not in the corpus" in evaluate_ranker(Keeping(), suite, progress=False).note


def test_a_run_over_another_corpus_is_refused_with_the_form_of_id_that_it_should_have() -> None:
    run: Run = {id: {f"0{passage}": score for passage, score in found.items()} for id, found in FIRST_STAGE.items()}
    with pytest.raises(BadInput, match=r"mine names no passage of small, but 0p1.*write 'p1' for '0p1'"):
        evaluate_run(run, small_suite(), system="mine")
    with pytest.raises(BadInput, match="names no passage of small"):
        small_suite(first_stage=run).candidates()


def test_results_that_the_corpus_lacks_are_counted_in_the_note() -> None:
    found = evaluate_run(FIRST_STAGE | {"q3": {"p1": 2.0, "stranger": 1.0}}, small_suite())
    assert "1 results are not in the corpus" in found.note


def test_judged_queries_without_text_are_counted_and_left_out() -> None:
    queries = {id: Query(id, "words") for id in ("q1", "q2")}
    suite = small_suite(collection=SmallCollection(queries=queries))
    assert suite.query_ids == ["q1", "q2"]
    assert "2 judged queries have no text and are left out" in evaluate_ranker(Keeping(), suite, progress=False).note


def test_a_query_that_is_a_passage_itself_is_not_its_own_result(tmp_path: Path) -> None:
    texts = {"a-pro": "the sea is blue", "a-con": "the sea is not blue", "b-pro": "grass is green"}
    collection = beir(tmp_path, texts, {"a-pro": "The sea is  blue"}, "a-pro\ta-con\t1\n")
    suite = Suite("arguana", collection, Bm25(), depth=1)
    assert [passage.id for passage in suite.candidates()[0].passages] == ["a-con"]
    found = evaluate_run({"a-pro": {"a-pro": 2.0, "a-con": 1.0}}, suite)
    assert found.means["mrr@10"] == 1.0
    assert "1 queries are passages, and not their own results" in found.note


def test_a_passage_that_only_shares_its_id_with_a_query_stays(tmp_path: Path) -> None:
    collection = beir(tmp_path, {"1": "grass is green", "2": "the sea"}, {"1": "green"}, "1\t1\t1\n")
    assert Suite("scifact", collection, Bm25()).first_stage_run["1"].keys() == {"1"}


def test_lines_that_say_the_same_again_are_read_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection = beir(tmp_path, {"d1": "one"}, {"q1": "one"}, "q1\td1\t1\nq1\td1\t1\n")
    assert collection.qrels == {"q1": {"d1": 1}}
    for name in ("corpus", "queries"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(path.read_text() * 2)
    (tmp_path / "qrels.txt").write_text("q1 0 d1 1\n" * 3)
    assert read_qrels(tmp_path / "qrels.txt") == {"q1": {"d1": 1}}
    assert read_passages(tmp_path / "corpus.jsonl") == {"d1": Passage("d1", "one")}
    assert read_queries(tmp_path / "queries.jsonl") == {"q1": Query("q1", "one")}
    counts = [record.args[1] for record in caplog.records if isinstance(record.args, tuple)]
    assert counts == [1, 2, 1, 1]


@pytest.mark.parametrize("line", ["q1\td1\t1.0", "q1\td1\t0.5", "q1\td1\t1e0", "q1\td1\t-1"])
def test_a_judgement_in_the_place_of_the_header_is_refused(tmp_path: Path, line: str) -> None:
    collection = beir(tmp_path, {"d1": "one"}, {"q1": "one"}, "")
    (tmp_path / "qrels" / "test.tsv").write_text(f"{line}\nq2\td1\t1\n")
    with pytest.raises(BadInput, match="expected a header line") as caught:
        collection.qrels  # noqa: B018
    assert caught.value.line == 1


def test_negative_grades_and_ids_with_hashes_are_usable_as_they_come(tmp_path: Path) -> None:
    ids = ["462221#4", "c67482ba-2019-04-18T13:32:05Z-00000-000"]  # MIRACL's and Touché's
    judged = f"q1\t{ids[0]}\t2\nq1\t{ids[1]}\t-2\n"
    collection = beir(tmp_path, dict.fromkeys(ids, "the sea"), {"q1": "sea"}, judged)
    found = evaluate_ranker(Keeping(), Suite("touche", collection, Bm25()), progress=False)
    assert found.run["q1"].keys() == set(ids) and found.means["mrr@10"] in (0.5, 1.0)


def test_a_train_judgement_of_a_missing_passage_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    collection = SmallCollection(qrels={"q1": {"p1": 2, "gone": 1, "p2": 0}})
    with caplog.at_level(logging.WARNING):
        assert _with_text(collection) == {"q1": {"p1": 1}}
    assert "1 of 2 relevant passages are not in the corpus" in caplog.text
    with pytest.raises(BadInput, match="none of the 4 relevant passages is in the corpus"):
        _with_text(SmallCollection(qrels=renamed("v2-")))


def test_gzipped_folders_are_read_as_the_hub_has_them(tmp_path: Path) -> None:
    plain = beir(tmp_path / "plain", {"d1": "one"}, {"q1": "one"}, "q1\td1\t1\n")
    (tmp_path / "packed" / "qrels").mkdir(parents=True)
    for path in (tmp_path / "plain").rglob("*.*sonl"), (tmp_path / "plain").rglob("*.tsv"):
        for file in path:
            packed = tmp_path / "packed" / file.relative_to(tmp_path / "plain")
            packed.with_name(f"{packed.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    packed_collection = BeirCollection(tmp_path / "packed")
    assert packed_collection.qrels == plain.qrels
    assert packed_collection.queries == plain.queries
    assert packed_collection.passages == plain.passages
    with pytest.raises(BadInput, match="one of its splits: test"):
        BeirCollection(tmp_path / "packed", "dev")


def test_ties_across_the_last_candidate_are_counted_in_the_note() -> None:
    suite = small_suite(first_stage={"q1": {"p1": 3.0, "p2": 2.0, "p3": 2.0}, "q2": {"p5": 2.0, "p4": 1.0}}, depth=2)
    note = evaluate_ranker(Keeping(), suite, progress=False).note
    assert "1 queries have ties at the last candidate, broken by passage id" in note
    assert [passage.id for passage in suite.candidates()[0].passages] == ["p1", "p3"]


@pytest.mark.parametrize(
    ("id", "known"), [("cafe\u0301", "caf\u00e9"), ("P1", "p1"), ("007", "7"), ("7.0", "7"), ("a%20b", "a b")]
)
def test_an_unknown_passage_is_refused_with_the_form_of_its_id_that_the_corpus_has(id: str, known: str) -> None:
    passages = PASSAGES | {known: Passage(known, "text")}
    suite = small_suite(first_stage={"q1": {"p1": 1.0, id: 2.0}}, collection=SmallCollection(passages=passages))
    with pytest.raises(BadInput, match=f"write '{known}', as the collection does"):
        suite.candidates()
