"""Views: which text stands for a passage."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.records import Passage
from perank.sources.views import text_view

BREAD = Passage("bread", "needs flour", title="Bread")


@pytest.mark.parametrize(
    ("name", "text"), [("contents", "Bread needs flour"), ("text", "needs flour"), ("title", "Bread")]
)
def test_a_field_of_the_corpus(name: str, text: str) -> None:
    assert text_view(name)(BREAD) == text


def test_summaries_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "summaries.jsonl"
    path.write_text('{"_id": "bread", "text": "flour"}\n')
    view = text_view(str(path))
    assert view(BREAD) == "flour"
    with pytest.raises(BadInput, match=r"summaries\.jsonl, id 'rain': the file holds no text for this passage"):
        view(Passage("rain", "falls"))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(BadInput, match="passages have no 'body'"):
        text_view("body")
