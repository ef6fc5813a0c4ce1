"""TREC runs, qrels and folders."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.records import Run, rank_order
from perank.sources.trec import TrecCollection, read_qrels, read_run, write_run

IDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Z", "C"]), min_size=1)
SCORES = st.floats(width=64, min_value=-3e38, max_value=3e38)


def written(tmp_path: Path, text: str, name: str = "run.trec") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=8), max_size=4))
def test_a_written_run_is_read_back_exactly(tmp_path: Path, run: Run) -> None:
    write_run(tmp_path / "run.trec", run, "tag")
    assert read_run(tmp_path / "run.trec") == run


def test_runs_are_written_in_trec_evals_order(tmp_path: Path) -> None:
    run = {"q2": {"a": 1.0, "c": 2.0, "b": 2.0}, "q1": {"x": 0.1}}
    write_run(tmp_path / "r", run, "mine")
    expected = "q2 Q0 c 1 2.0 mine\nq2 Q0 b 2 2.0 mine\nq2 Q0 a 3 1.0 mine\nq1 Q0 x 1 0.1 mine\n"
    assert (tmp_path / "r").read_text() == expected


@pytest.mark.parametrize(
    ("run", "tag", "message"),
    [
        ({"q 1": {"a": 1.0}}, "t", "query id 'q 1'"),
        ({"q": {"a\u00a0b": 1.0}}, "t", "passage id"),
        ({"q": {"": 1.0}}, "t", "passage id ''"),
        ({"q": {"a": 1.0}}, "my tag", "tag 'my tag'"),
        ({"q": {"a": float("nan")}}, "t", "finite"),
        ({"q": {"a": 1e39}}, "t", "finite"),
    ],
)
def test_what_six_columns_cannot_hold_is_not_written(tmp_path: Path, run: Run, tag: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        write_run(tmp_path / "r", run, tag)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 b 2 0.5", "expected 6 columns .* found 5"),
        ("q Q0 b 2 0.5 t x", "found 7"),
        ("q Q0 a 2 0.5 t", "occurs twice for query 'q'"),
        ("q Q0 b 2 high t", "expected a number as score, found 'high'"),
        ("q Q0 b 2 nan t", "finite"),
        ("q Q0 b 2 -inf t", "finite"),
        ("q Q0 b 2 1e39 t", "finite"),
        ("q Q0 b 2 1_0 t", "finite"),
        ("q Q0 b two 0.5 t", "expected an integer rank, found 'two'"),
        ("q Q0 b 2 1.5 t", "rank 2, but it outscores 'a' at rank 1"),
    ],
)
def test_a_broken_run_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, f"q Q0 a 1 1.0 t\n{line}\n")
    with pytest.raises(BadInput, match=message) as caught:
        read_run(path)
    assert (caught.value.path, caught.value.line) == (path, 2)
    assert caught.value.remedy


def test_ranks_of_ties_and_of_near_ties_in_fp32_may_stand_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path, "q Q0 a 2 1.00000000001 t\nq Q0 b 1 1 t\nq Q0 c 7 1.0 t\nq Q0 d 7 -5 t\nq Q0 e 7 -4 t\n")
    run = read_run(path)
    assert rank_order(run["q"]) == ["a", "c", "b", "e", "d"]


def test_the_order_of_lines_is_no_matter_and_blanks_may_be_tabs(tmp_path: Path) -> None:
    path = written(tmp_path, "q\tQ0\tb\t1\t0.5\tt\r\n\n  q Q0   a 0 2.5 t  \r\n")
    assert read_run(path) == {"q": {"b": 0.5, "a": 2.5}}


def test_qrels_keep_negative_and_zero_grades(tmp_path: Path) -> None:
    path = written(tmp_path, "1 0 a -2\n1 0 b 0\n2 Q0 a 3\n", "qrels")
    assert read_qrels(path) == {"1": {"a": -2, "b": 0}, "2": {"a": 3}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0 b", "found 3"),
        ("1 0 b 1.0", "expected an integer grade, found '1.0'"),
        ("1 0 b \u0661", "expected an integer grade"),
        ("1 0 a 2", "occurs twice"),
        ("1 0 b " + "9" * 5000, "expected an integer grade"),
    ],
)
def test_broken_qrels_are_refused_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_qrels(written(tmp_path, f"1 0 a 1\n{line}\n", "qrels"))
    assert caught.value.line == 2


def folder(tmp_path: Path) -> Path:
    written(tmp_path, '{"_id": "a", "text": "one"}\n', "passages.jsonl")
    written(tmp_path, "1\tjudged\n2\tunjudged\n", "queries.tsv")
    written(tmp_path, "1 0 a 1\n", "qrels.txt")
    written(tmp_path, "1 Q0 a 1 3.5 t\n", "run.bm25.top100.trec")
    written(tmp_path, "not a run", "run.broken.trec")
    with gzip.open(tmp_path / "run.dense.v2.trec.gz", "wt") as file:
        file.write("1 Q0 a 1 0.5 t\n")
    return tmp_path


def test_a_folder_is_a_collection_with_lazy_runs(tmp_path: Path) -> None:
    collection = TrecCollection(folder(tmp_path), name="toy")
    assert collection.name == "toy"
    assert list(collection.queries) == ["1", "2"]
    assert collection.qrels == {"1": {"a": 1}}
    assert collection.passages["a"].text == "one"
    assert set(collection.runs) == {"bm25", "broken", "dense.v2"}
    assert "broken" in collection.runs
    assert collection.runs["bm25"] == {"1": {"a": 3.5}}
    assert collection.runs["dense.v2"] == {"1": {"a": 0.5}}
    with pytest.raises(BadInput, match="integer rank"):
        collection.runs["broken"]
    with pytest.raises(KeyError):
        collection.runs["none"]


def test_two_files_with_one_run_name_are_refused(tmp_path: Path) -> None:
    written(folder(tmp_path), "", "run.bm25.top1000.trec")
    with pytest.raises(BadInput, match="two files hold a run 'bm25'"):
        TrecCollection(tmp_path).runs  # noqa: B018


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        TrecCollection(tmp_path / "none")


def test_all_published_runs_load(shared: Path) -> None:
    paths = sorted((shared / "collections" / "runs").glob("*.txt"))
    assert paths
    judged = read_qrels(shared / "collections" / "trecdl" / "dl19" / "qrels.txt")
    for path in paths:
        assert set(read_run(path)) == set(judged)


def test_trec_evals_own_test_files_load(shared: Path) -> None:
    tests = shared / "collections" / "metrics" / "trec_eval-tests"
    run, qrels = read_run(tests / "results.test"), read_qrels(tests / "qrels.test")
    assert sum(map(len, run.values())) == len((tests / "results.test").read_text().splitlines())
    assert sum(map(len, qrels.values())) == len((tests / "qrels.test").read_text().splitlines())


def test_the_shared_trec_folders_load_with_texts_for_every_candidate(shared: Path) -> None:
    for path in sorted((shared / "collections" / "trecdl").iterdir()):
        collection = TrecCollection(path)
        assert collection.runs
        assert set(collection.qrels) <= set(collection.queries)
        for run in collection.runs.values():
            assert set(run) <= set(collection.queries)
            assert all(id in collection.passages for scores in run.values() for id in scores)


def test_ms_marcos_three_columns_give_the_order_of_their_ranks(tmp_path: Path) -> None:
    path = written(tmp_path, "q1\tb\t2\nq1\ta\t1\nq2\tc\t1\n", "run.tsv")
    run = read_run(path)
    assert {query: rank_order(scores) for query, scores in run.items()} == {"q1": ["a", "b"], "q2": ["c"]}
    write_run(tmp_path / "again.trec", run, tag="x")
    assert read_run(tmp_path / "again.trec") == run


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 b 1", "occurs twice"),
        ("q1 a 2", "occurs twice for query"),
        ("q1 b -1", "negative"),
        ("q1 b 1.5", "expected an integer rank"),
        ("q1 Q0 b 2 1 t", "expected 3 columns"),
    ],
)
def test_broken_lines_of_three_columns_are_refused_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_run(written(tmp_path, f"q1 a 1\n{line}\n", "run.tsv"))
    assert caught.value.line == 2


def test_a_utf16_file_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "run.trec").write_bytes("q1 Q0 a 1 2.5 t\n".encode("utf-16"))
    with pytest.raises(BadInput, match="iconv -f UTF-16"):
        read_run(tmp_path / "run.trec")
