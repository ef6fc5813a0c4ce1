"""NQ-open with oracle passages."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.records import Passage, Query
from perank.sources.nq_open import NQOpen


def written(path: Path, *records: object) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    return path


def question(text: str, title: str) -> dict[str, object]:
    other = {"title": "Other", "text": "no", "isgold": False}
    return {"question": text, "ctxs": [other, {"title": title, "text": "It is so.", "isgold": True}]}


def test_a_question_has_its_gold_passage_and_passages_are_distinct(tmp_path: Path) -> None:
    path = written(tmp_path / "nq.jsonl.gz", question("who", "A"), question("what", "B"), question("when", "A"))
    collection = NQOpen(path)
    assert list(collection.queries.values()) == [Query("q1", "who"), Query("q2", "what"), Query("q3", "when")]
    assert list(collection.passages.values()) == [Passage("p1", "It is so.", "A"), Passage("p2", "It is so.", "B")]
    assert collection.qrels == {"q1": {"p1": 1}, "q2": {"p2": 1}, "q3": {"p1": 1}}


@pytest.mark.parametrize("record", [{"question": "who"}, {"question": "who", "ctxs": [{"isgold": False}]}])
def test_another_format_is_refused_with_its_line(tmp_path: Path, record: dict[str, object]) -> None:
    path = written(tmp_path / "nq.jsonl.gz", question("who", "A"), record)
    with pytest.raises(BadInput, match=r"nq.jsonl.gz:2.*gold"):
        _ = NQOpen(path).queries
