"""A folder of texts without judgements: corpus.jsonl and, if there are questions, queries.jsonl.

What `perank.prepare` leaves for alignment, or of the authors' rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from perank.errors import BadInput
from perank.records import Passage, Qrels, Query, Run
from perank.sources.texts import read_passages, read_queries


class TextFolder:
    """Files are read when first asked for. Raises `BadInput` for a folder without a corpus.jsonl."""

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = name or self.folder.name
        if not (self.folder / "corpus.jsonl").is_file():
            raise BadInput("there is no corpus.jsonl", remedy="make it with perank.prepare", path=self.folder)

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        return read_passages(self.folder / "corpus.jsonl")

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        path = self.folder / "queries.jsonl"
        return read_queries(path) if path.is_file() else {}

    @property
    def qrels(self) -> Qrels:
        return {}

    @property
    def runs(self) -> Mapping[str, Run]:
        return {}
