"""The text of a passage for text rankers: title and text, either of them, or a summary from a file.

These correspond to `p`, `s` and `t` of RankMistral in the paper's Table 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from perank.errors import BadInput
from perank.records import Passage
from perank.sources import read_passages

FIELDS = ("contents", "text", "title")


class TextView(Protocol):
    """Maps a passage to its text for the ranker, which may be empty."""

    def __call__(self, passage: Passage) -> str:
        """Return the text."""
        ...


class Field:
    """A field of the corpus: `contents` (title and text), `text` or `title`. Raises `BadInput` for other names."""

    def __init__(self, name: str = "contents") -> None:
        if name not in FIELDS:
            remedy = f"choose among {', '.join(FIELDS)}, or name a file of summaries"
            raise BadInput(f"passages have no {name!r}", remedy=remedy, id="text_view")
        self.name = name

    def __call__(self, passage: Passage) -> str:
        return str(getattr(passage, self.name))


class Summaries:
    """Texts by passage id from a JSONL file (`_id`, `text`). Raises `BadInput` for a broken file or missing passage."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.passages = path, read_passages(path)

    def __call__(self, passage: Passage) -> str:
        if passage.id not in self.passages:
            remedy = "create summaries of the whole collection"
            raise BadInput("the file holds no text for this passage", remedy=remedy, path=self.path, id=passage.id)
        return self.passages[passage.id].text


def text_view(name: str = "contents") -> TextView:
    """Return a view by name: a field of the corpus, or the path of a JSONL file of summaries."""
    return Summaries(name) if name.endswith((".jsonl", ".jsonl.gz")) else Field(name)
