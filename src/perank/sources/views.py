"""What a text ranker reads of a passage: title and text together, either alone, or a summary from a file.

These are the `p`, `s` and `t` of RankMistral in the paper's Table 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from perank.errors import BadInput
from perank.records import Passage
from perank.sources.texts import read_passages

FIELDS = ("contents", "text", "title")


class TextView(Protocol):
    """Passage -> the text that stands for it; may be empty."""

    def __call__(self, passage: Passage) -> str:
        """The text."""
        ...


class Field:
    """A field of the corpus: `contents` (title and text), `text` or `title`. Raises `BadInput` for another."""

    def __init__(self, name: str = "contents") -> None:
        if name not in FIELDS:
            remedy = f"choose among {', '.join(FIELDS)}, or name a file of summaries"
            raise BadInput(f"passages have no {name!r}", remedy=remedy, id="text_view")
        self.name = name

    def __call__(self, passage: Passage) -> str:
        return str(getattr(passage, self.name))


class Summaries:
    """Texts by passage id from a JSONL file (`_id`, `text`), read at once.

    Raises `BadInput` for a broken file, and when asked for a passage that it doesn't hold.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.passages = path, read_passages(path)

    def __call__(self, passage: Passage) -> str:
        if passage.id not in self.passages:
            remedy = "make summaries of the whole collection"
            raise BadInput("the file holds no text for this passage", remedy=remedy, path=self.path, id=passage.id)
        return self.passages[passage.id].text


def text_view(name: str = "contents") -> TextView:
    """The view of that name: a field of the corpus, or the path of a JSONL file of summaries."""
    return Summaries(name) if name.endswith((".jsonl", ".jsonl.gz")) else Field(name)
