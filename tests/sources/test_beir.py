"""BEIR folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.sources.beir import BeirCollection, read_beir_qrels

HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "T", "text": "one"}\n{"_id": "d2", "text": "two"}\n')
    (tmp_path / "queries.jsonl").write_text("".join(f'{{"_id": "q{i}", "text": "query {i}"}}\n' for i in (3, 1, 2)))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(HEADER + "q1\td1\t2\nq3\td2\t0\n")
    (tmp_path / "qrels" / "dev.tsv").write_text(HEADER + "q2\td1\t1\n")
    (tmp_path / "run.bm25.trec").write_text("q1 Q0 d1 1 7.5 t\n")
    return tmp_path


def test_a_split_shows_the_queries_that_it_judges_in_the_files_order(folder: Path) -> None:
    collection = BeirCollection(folder)
    assert list(collection.queries) == ["q3", "q1"]
    assert collection.qrels == {"q1": {"d1": 2}, "q3": {"d2": 0}}
    assert collection.passages["d1"].contents == "T one"
    assert dict(collection.runs) == {"bm25": {"q1": {"d1": 7.5}}}
    assert collection.name == f"{folder.name}-test"
    assert list(BeirCollection(folder, "dev", name="mine").queries) == ["q2"]


def test_an_unknown_split_is_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(BadInput, match="dev, test"):
        BeirCollection(folder, "train")


def test_a_judged_query_without_text_is_refused_by_name(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q9\td1\t2\n")
    with pytest.raises(BadInput, match=r"isn't in queries\.jsonl") as caught:
        BeirCollection(folder).queries  # noqa: B018
    assert caught.value.id == "q9"


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("q1\td1\t1\n", "expected a header line", 1),
        (HEADER + "q1 d1 1\n", "found 1", 2),
        (HEADER + "q1\td1\t1\t2\n", "found 4", 2),
        (HEADER + "q1\td1\thigh\n", "expected an integer grade, found 'high'", 2),
        (HEADER + "q1\td1\t1\nq1\td1\t2\n", "occurs twice for query 'q1'", 3),
        (HEADER + "\td1\t1\n", "an id is empty", 2),
    ],
)
def test_broken_judgements_are_refused_with_their_line(tmp_path: Path, text: str, message: str, line: int) -> None:
    (tmp_path / "test.tsv").write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        read_beir_qrels(tmp_path / "test.tsv")
    assert caught.value.line == line


def test_the_shared_beir_folders_load(shared: Path) -> None:
    for path in sorted((shared / "collections" / "beir").glob("*/qrels/*.tsv")):
        collection = BeirCollection(path.parents[1], path.stem)
        assert set(collection.queries) == set(collection.qrels)
        assert all(id in collection.passages for grades in collection.qrels.values() for id in grades)
