"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/<split>.tsv with a header line, as the BEIR benchmark ships them.

Files may be gzipped. A BEIR queries file holds all splits; the collection contains the queries that its split judges,
and the runs stored next to the corpus (`run.<name>.trec`). `TextFolder` is such a folder without judgements, written
by `perank.prepare` for alignment or from the authors' rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from perank.errors import BadInput
from perank.files import lines
from perank.records import Passage, Qrels, Query, Run
from perank.sources import check_new_pair, integer, read_passages, read_queries, runs_in, text_file, warn_of_repeats


class BeirCollection:
    """One split of a BEIR folder; files are read on first use. Raises `BadInput` for an unknown split."""

    def __init__(self, folder: str | Path, split: str = "test", name: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = name or f"{self.folder.name}-{split}"
        self._qrels_path = text_file(self.folder / "qrels", f"{split}.tsv")
        if not self._qrels_path.is_file():
            found = {path.name.partition(".")[0] for path in self.folder.glob("qrels/*.tsv*")}
            splits = ", ".join(sorted(found)) or "none"
            raise BadInput(
                f"no judgements for split {split!r}",
                remedy=f"check the folder, or choose one of its splits: {splits}",
                path=self._qrels_path,
            )

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        """The split's judged queries that have a text, in the file's order. Raises `BadInput` if none has."""
        path = text_file(self.folder, "queries.jsonl")
        texts = read_queries(path)
        missing = [id for id in self.qrels if id not in texts]
        if missing and len(missing) == len(self.qrels):
            remedy = "use judgements and queries that belong together"
            problem = f"a judged query isn't in {path.name}, nor is any other"
            raise BadInput(problem, remedy=remedy, path=self._qrels_path, id=missing[0])
        return {id: query for id, query in texts.items() if id in self.qrels}

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        return read_passages(text_file(self.folder, "corpus.jsonl"))

    @cached_property
    def qrels(self) -> Qrels:
        return read_beir_qrels(self._qrels_path)

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        return runs_in(self.folder)


class TextFolder:
    """Texts, and queries if queries.jsonl exists. Raises `BadInput` for a folder without corpus.jsonl."""

    runs: ClassVar[Mapping[str, Run]] = {}

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = name or self.folder.name
        if not text_file(self.folder, "corpus.jsonl").is_file():
            raise BadInput("corpus.jsonl is missing", remedy="create it with perank.prepare", path=self.folder)

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        return read_passages(text_file(self.folder, "corpus.jsonl"))

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        path = text_file(self.folder, "queries.jsonl")
        return read_queries(path) if path.is_file() else {}

    @property
    def qrels(self) -> Qrels:
        return {}


def read_beir_qrels(path: str | Path) -> Qrels:
    """Read query id -> passage id -> grade from a header line and `query<TAB>passage<TAB>grade` lines.

    Repeated judgements are read once. Raises `BadInput` for a missing header, a wrong number of fields, a grade that
    isn't an integer, or a pair with two grades.
    """
    qrels: Qrels = {}
    repeated = 0
    for number, (line, text) in enumerate(lines(path)):
        columns = text.split("\t")
        if len(columns) != 3:
            problem = f"expected 3 fields between tabs, found {len(columns)}"
            raise BadInput(problem, remedy="fix the line", path=path, line=line)
        query_id, passage_id, grade = columns
        if number == 0:
            _check_header(grade, path, line)
            continue
        grades = qrels.setdefault(query_id, {})
        number_found = integer(grade.strip(), "grade", path, line, passage_id)
        if grades.get(passage_id) == number_found:
            repeated += 1
            continue
        check_new_pair(query_id, passage_id, grades, path, line)
        grades[passage_id] = number_found
    warn_of_repeats(repeated, path)
    return qrels


def _is_number(field: str) -> bool:
    try:
        return not math.isnan(float(field))
    except ValueError:
        return False


def _check_header(field: str, path: str | Path, line: int) -> None:
    if _is_number(field):
        remedy = "put 'query-id<TAB>corpus-id<TAB>score' into the first line"
        raise BadInput("expected a header line, found a judgement", remedy=remedy, path=path, line=line)
