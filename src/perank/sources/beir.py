"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/<split>.tsv with a header line, as the BEIR benchmark ships them.

A BEIR queries file holds all splits; the collection contains the queries that its split judges, and the runs stored
next to the corpus (`run.<name>.trec`). `TextFolder` is such a folder without judgements, written by `perank.prepare`
for alignment or from the authors' rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from perank.errors import BadInput
from perank.files import lines
from perank.records import Passage, Qrels, Query, Run
from perank.sources.fields import check_new_pair, integer
from perank.sources.texts import read_passages, read_queries
from perank.sources.trec import runs_in


class BeirCollection:
    """One split of a BEIR folder; files are read on first use. Raises `BadInput` for an unknown split."""

    def __init__(self, folder: str | Path, split: str = "test", name: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = name or f"{self.folder.name}-{split}"
        self._qrels_path = self.folder / "qrels" / f"{split}.tsv"
        if not self._qrels_path.is_file():
            splits = ", ".join(sorted(path.stem for path in self.folder.glob("qrels/*.tsv"))) or "none"
            raise BadInput(
                f"no judgements for split {split!r}",
                remedy=f"check the folder, or choose one of its splits: {splits}",
                path=self._qrels_path,
            )

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        """The split's judged queries, in the file's order. Raises `BadInput` if one has no text."""
        path = self.folder / "queries.jsonl"
        texts = read_queries(path)
        if missing := next((id for id in self.qrels if id not in texts), None):
            remedy = f"add the query to {path.name}, or remove its judgements"
            raise BadInput(f"a judged query isn't in {path.name}", remedy=remedy, path=self._qrels_path, id=missing)
        return {id: query for id, query in texts.items() if id in self.qrels}

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        return read_passages(self.folder / "corpus.jsonl")

    @cached_property
    def qrels(self) -> Qrels:
        return read_beir_qrels(self._qrels_path)

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        return runs_in(self.folder)


class TextFolder:
    """Texts, and queries if queries.jsonl exists. Raises `BadInput` for a folder without corpus.jsonl."""

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = name or self.folder.name
        if not (self.folder / "corpus.jsonl").is_file():
            raise BadInput("corpus.jsonl is missing", remedy="create it with perank.prepare", path=self.folder)

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


def read_beir_qrels(path: str | Path) -> Qrels:
    """Read query id -> passage id -> grade from a header line and `query<TAB>passage<TAB>grade` lines.

    Raises `BadInput` for a missing header, a wrong number of fields, a grade that isn't an integer, or a pair
    judged twice.
    """
    qrels: Qrels = {}
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
        check_new_pair(query_id, passage_id, grades, path, line)
        grades[passage_id] = integer(grade.strip(), "grade", path, line, passage_id)
    return qrels


def _check_header(field: str, path: str | Path, line: int) -> None:
    if field.strip().lstrip("+-").isdigit():
        remedy = "put 'query-id<TAB>corpus-id<TAB>score' into the first line"
        raise BadInput("expected a header line, found a judgement", remedy=remedy, path=path, line=line)
