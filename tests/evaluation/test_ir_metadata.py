"""Headers of runs: what is written is read back, by perank and by the authors' own tool, and changes no ranking."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.evaluation.ir_metadata import annotate, described, joined, read_header
from perank.sources.trec import HEADER_END, HEADER_START, read_qrels, read_run, write_qrels, write_run

RUN = {"q1": {"p1": 2.0, "p2": 1.5}, "q2": {"p3": 0.1}, "#3": {"#p": 1.0}}
METADATA = {
    "tag": "ours",
    "actor": {"team": "ours: a # sign, 'quotes'\nand a second line", "orcid": "0000-0002-1825-0097"},
    "research goal": {"evaluation": {"reported measures": ["ndcg@10", "map"], "baseline": ["bm25"]}},
    "method": {"automatic": True, "retrieval": [{"name": "bm25", "depth": 100}]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.trec"
    write_run(path, RUN, "ours")
    return path


def test_a_header_is_read_back_and_the_run_stays(path: Path) -> None:
    plain = path.read_bytes()
    assert read_header(path) == {}
    annotate(path, {"tag": "earlier"})
    annotate(path, METADATA)  # replaces it
    assert read_header(path) == METADATA
    assert read_run(path) == RUN
    head, _, body = path.read_bytes().partition(f"{HEADER_END}\n".encode())
    assert head.startswith(f"{HEADER_START}\n# tag: ours\n".encode()) and body == plain
    assert all(line.startswith("# ") for line in head.decode().splitlines())


def test_other_lines_that_begin_with_a_sign_are_data(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("#1 Q0 p 1 2.0 t\n#1 Q0 #q 2 1.0 t\n")
    assert read_run(path) == {"#1": {"p": 2.0, "#q": 1.0}}
    path.write_text(f"1 Q0 p 1 2.0 t\n{HEADER_START}\n# tag: t\n{HEADER_END}\n")
    with pytest.raises(BadInput, match=r"expected 6 columns.*found 2"):
        read_run(path)


def test_broken_headers_are_refused(path: Path) -> None:
    body = path.read_text()
    path.write_text(f"{HEADER_START}\n# tag: ours\n{body}")
    for read in (read_run, lambda path: annotate(path, METADATA)):
        with pytest.raises(BadInput, match="a header without an end"):
            read(path)
    for text in ("# [1, 2", "# just words", "# - a list"):
        path.write_text(f"{HEADER_START}\n{text}\n{HEADER_END}\n{body}")
        assert read_run(path) == RUN
        with pytest.raises(BadInput, match="not a YAML mapping"):
            read_header(path)


def test_fields_given_replace_known_ones_and_keep_the_others() -> None:
    known = described("ours", {"method": {"retrieval": [1]}}, "CPU, 2 cores")
    more = joined(known, {"method": {"automatic": False}, "actor": {"team": "us"}, "data": None})
    assert more["method"] == {**known["method"], "automatic": False} and more["method"]["retrieval"] == [1]
    assert more["actor"] == {"team": "us"} and more["data"] is None and more["platform"] == known["platform"]
    assert any(line.startswith("torch==") for line in more["platform"]["software"]["libraries"]["python"])


def test_the_authors_tool_reads_and_strips_it(path: Path) -> None:
    handler = pytest.importorskip("repro_eval.metadata", reason="needs repro_eval and setuptools<80").MetadataHandler
    annotate(path, METADATA)
    assert handler.read_metadata(str(path)) == METADATA
    assert handler.strip_metadata(str(path)) == {id: scores for id, scores in RUN.items() if id[0] != "#"}
    handler(str(path)).write_metadata(f"{path}.theirs")
    assert read_header(f"{path}.theirs")["tag"] == "ours"


def test_ir_measures_reads_runs_and_qrels_and_agrees(tmp_path: Path) -> None:
    ir_measures = pytest.importorskip("ir_measures", reason="needs the package ir_measures")
    from perank.evaluation.evaluator import evaluate_ranker
    from support.small_suite import Reversing, small_suite

    suite = small_suite(metrics=["ndcg@10", "mrr@10", "map", "recall@100"])
    ours = evaluate_ranker(Reversing(), suite, system="ours", progress=False)
    ours.save(tmp_path)
    write_qrels(tmp_path / "small.qrels", suite.qrels())
    assert read_qrels(tmp_path / "small.qrels") == suite.qrels()
    names = {"ndcg@10": "nDCG@10", "mrr@10": "RR@10", "map": "AP", "recall@100": "R@100"}
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "small.qrels")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "small.ours.trec")))
    measures = {name: ir_measures.parse_measure(theirs) for name, theirs in names.items()}
    theirs = ir_measures.calc_aggregate(measures.values(), qrels, run)
    assert {name: theirs[measure] for name, measure in measures.items()} == pytest.approx(ours.means)
