"""A folder of texts without judgements."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.records import Passage, Query
from perank.sources.beir import TextFolder


def test_texts_are_read_and_questions_where_there_are_some(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "title": "T", "text": "x"}\n')
    folder = TextFolder(tmp_path, name="mine")
    assert (folder.name, dict(folder.passages)) == ("mine", {"a": Passage("a", "x", "T")})
    assert (dict(folder.queries), folder.qrels, dict(folder.runs)) == ({}, {}, {})
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "what"}\n')
    assert dict(TextFolder(tmp_path).queries) == {"q": Query("q", "what")}


def test_a_folder_without_texts_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"perank\.prepare"):
        TextFolder(tmp_path)
