"""Queries and passages are read whole or refused with the place."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.records import Passage, Query
from perank.sources.texts import read_passages, read_queries


def test_passages_keep_their_order_and_title(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "b", "text": "two", "title": "T"}\n\n{"_id": "a", "text": "", "title": null}\n')
    assert list(read_passages(path).values()) == [Passage("b", "two", "T"), Passage("a", "")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected a JSON object"),
        ('{"text": "x"}', "expected text in '_id', found none"),
        ('{"_id": 7, "text": "x"}', "expected text in '_id', found int"),
        ('{"_id": " ", "text": "x"}', "the id is empty"),
        ('{"_id": "b"}', "expected text in 'text', found none"),
        ('{"_id": "b", "text": null}', "expected text in 'text', found NoneType"),
        ('{"_id": "b", "text": "x", "title": 3}', "expected text in 'title', found int"),
        ('{"_id": "b", "text": "\\ud83d"}', "lone surrogate"),
        ('{"_id": "a", "text": "again"}', "used before"),
    ],
)
def test_a_broken_passage_is_refused_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "a", "text": "one"}\n' + row + "\n")
    with pytest.raises(BadInput, match=message) as caught:
        read_passages(path)
    assert (caught.value.path, caught.value.line) == (path, 2)
    assert caught.value.remedy


def test_queries_are_read_from_json_lines_and_from_tabbed_lines_gzipped_or_not(tmp_path: Path) -> None:
    expected = {"1": Query("1", "what is\tthis"), "2": Query("2", "and that")}
    (tmp_path / "q.jsonl").write_text('{"_id": "1", "text": "what is\\tthis"}\n{"_id": "2", "text": "and that"}\n')
    (tmp_path / "q.tsv").write_text("1\twhat is\tthis\n2\tand that\n")
    with gzip.open(tmp_path / "q.tsv.gz", "wt") as file:
        file.write("1\twhat is\tthis\n2\tand that\n")
    for name in ("q.jsonl", "q.tsv", "q.tsv.gz"):
        assert read_queries(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("line", "message"), [("2 no tab", "found no tab"), ("2\t ", "query is empty"), ("1\tagain", "used before")]
)
def test_a_broken_query_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text(f"1\tone\n{line}\n")
    with pytest.raises(BadInput, match=message) as caught:
        read_queries(path)
    assert caught.value.line == 2


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_bytes(b"1\t\xff\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_queries(path)
