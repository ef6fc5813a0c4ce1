"""NQ-open with its oracle passages (Liu et al. 2023, "Lost in the Middle"): real questions and the Wikipedia passage
that answers each, one JSON object per line with `question` and the gold passage in `ctxs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from perank.errors import BadInput
from perank.files import json_lines
from perank.records import Passage, Qrels, Query, Run


class NQOpen:
    """Questions `q<line>`, distinct passages `p<first line>`, one judgement each. Raises `BadInput` for other files."""

    runs: ClassVar[Mapping[str, Run]] = {}

    def __init__(self, path: str | Path, name: str = "nq-open") -> None:
        self.path, self.name = Path(path), name

    @property
    def queries(self) -> Mapping[str, Query]:
        return self._content[0]

    @property
    def passages(self) -> Mapping[str, Passage]:
        return self._content[1]

    @property
    def qrels(self) -> Qrels:
        return self._content[2]

    @cached_property
    def _content(self) -> tuple[dict[str, Query], dict[str, Passage], Qrels]:
        queries: dict[str, Query] = {}
        passages: dict[tuple[str, str], Passage] = {}
        qrels: Qrels = {}
        for line, record in json_lines(self.path):
            try:
                gold = next(passage for passage in record["ctxs"] if passage["isgold"])
                text, key = str(record["question"]), (str(gold["title"]), str(gold["text"]))
            except (KeyError, TypeError, StopIteration) as error:
                remedy = "use nq-open-oracle.jsonl of the paper's repository"
                raise BadInput("no question with a gold passage", remedy=remedy, path=self.path, line=line) from error
            passage = passages.setdefault(key, Passage(f"p{line}", key[1], key[0]))
            queries[f"q{line}"] = Query(f"q{line}", text)
            qrels[f"q{line}"] = {passage.id: 1}
        return queries, {passage.id: passage for passage in passages.values()}, qrels
