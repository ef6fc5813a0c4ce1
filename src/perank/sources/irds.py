"""Any dataset of ir_datasets by id, as a collection: `msmarco-passage/trec-dl-2019/judged`, `beir/nfcorpus/test`.

ir_datasets downloads on demand to its own folder (`IR_DATASETS_HOME`). Passages stay on disk: lookups read its document
store, which each thread opens once, iteration streams. Its BEIR lacks Signal, News and Robust04 (licences); load those
from a folder (`perank.sources.beir`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from textwrap import shorten
from typing import Any

from perank.errors import BadInput
from perank.records import Passage, Qrels, Query, Run
from perank.sources import LazyRuns, StreamedPassages, check_new_pair, finite

_TEXT_FIELDS = ("text", "abstract", "body")


class IrdsCollection:
    """A dataset of ir_datasets, fetched on first use.

    A dataset without judgements has empty `qrels`; its scored documents, if any, are the run `scoreddocs`. Raises
    `BadInput` for an unknown id, for a dataset without queries or passages, and if ir_datasets can't get them.
    """

    def __init__(self, dataset_id: str, name: str | None = None) -> None:
        self.name = name or dataset_id
        self._id = dataset_id
        self._dataset = _load(dataset_id)

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        self._check_has("queries")
        queries: dict[str, Query] = {}
        with _supplying(self._id, "queries"):
            for row in self._dataset.queries_iter():
                text = _default_text(row)
                if not text.strip():
                    raise BadInput(
                        "the query is empty", remedy="choose another dataset", path=self._id, id=row.query_id
                    )
                queries[row.query_id] = Query(row.query_id, text)
        return queries

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        self._check_has("docs")
        return _Passages(self._id, self._dataset)

    @cached_property
    def qrels(self) -> Qrels:
        """Grades; if a passage was judged several times, e.g. by spans, the highest one."""
        qrels: Qrels = {}
        if self._dataset.has_qrels():
            with _supplying(self._id, "qrels"):
                for row in self._dataset.qrels_iter():
                    grades, grade = qrels.setdefault(row.query_id, {}), int(row.relevance)
                    grades[row.doc_id] = max(grade, grades.get(row.doc_id, grade))
        return qrels

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        return LazyRuns({"scoreddocs": self._scoreddocs} if self._dataset.has_scoreddocs() else {})

    def _scoreddocs(self) -> Run:
        run: Run = {}
        with _supplying(self._id, "scoreddocs"):
            for number, row in enumerate(self._dataset.scoreddocs_iter(), start=1):
                scores = run.setdefault(row.query_id, {})
                check_new_pair(row.query_id, row.doc_id, scores, self._id, number)
                scores[row.doc_id] = finite(float(row.score), self._id, number, row.doc_id)
        return run

    def _check_has(self, what: str) -> None:
        if not self._dataset.has(what):
            remedy = "choose a part of the dataset that has them, see ir_datasets' catalogue"
            raise BadInput(f"the dataset has no {what}", remedy=remedy, path=self._id)


class _Passages(StreamedPassages):
    """Passages looked up in the document store; `items` and `values` stream them in the dataset's order."""

    def __init__(self, id: str, dataset: Any) -> None:
        self._id, self._dataset = id, dataset
        self._stores: dict[tuple[int, int], Any] = {}  # by process and thread: an open file has one position
        self._count: int | None = None

    def __getitem__(self, id: str) -> Passage:
        return self.get_many([id])[id]

    def get_many(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return the passages of `ids` that exist, by id."""
        place = os.getpid(), threading.get_ident()
        store = self._stores.pop(place, None)  # put back only if the lookup succeeds
        with _supplying(self._id, "docs"):
            store = store or self._dataset.docs_store()
            found = {row.doc_id: _to_passage(row) for row in store.get_many_iter(ids)}
        self._stores[place] = store
        return found

    def __len__(self) -> int:
        if self._count is None:  # without ir_datasets' index, counting reads all passages
            with _supplying(self._id, "docs"):
                count = self._dataset.docs_count()
            self._count = sum(1 for _ in self.stream()) if count is None else int(count)
        return self._count

    def stream(self) -> Iterator[Passage]:
        with _supplying(self._id, "docs"):
            yield from map(_to_passage, self._dataset.docs_iter())


def _load(dataset_id: str) -> Any:
    try:
        import ir_datasets
    except ImportError as error:
        remedy = "install perank[data], which brings ir_datasets"
        raise BadInput("ir_datasets isn't installed", remedy=remedy, id=dataset_id) from error
    try:
        return ir_datasets.load(dataset_id)
    except KeyError as error:
        from difflib import get_close_matches

        near = get_close_matches(dataset_id, list(ir_datasets.registry))
        remedy = f"did you mean {' or '.join(near)}?" if near else "see ir_datasets' catalogue"
        raise BadInput("ir_datasets knows no such dataset", remedy=remedy, id=dataset_id) from error


@contextmanager
def _supplying(dataset_id: str, what: str) -> Iterator[None]:
    """Convert ir_datasets' errors in fetching, unpacking or parsing a file to `BadInput`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        remedy = "check the network and ir_datasets' notes on this dataset, then run again"
        cause = shorten(str(error), 300)  # a failed download lists every attempt at every mirror
        raise BadInput(f"ir_datasets can't supply the {what}: {cause}", remedy=remedy, path=dataset_id) from error


def _to_passage(row: Any) -> Passage:
    """Convert a row: its title, if any, and its text, abstract and body, or else its default text."""
    title = getattr(row, "title", "")
    title = title if isinstance(title, str) else ""
    found = [value for name in _TEXT_FIELDS if isinstance(value := getattr(row, name, None), str) and value.strip()]
    if found or any(isinstance(getattr(row, name, None), str) for name in _TEXT_FIELDS):
        return Passage(row.doc_id, "\n".join(found), title)
    return Passage(row.doc_id, _default_text(row).removeprefix(title).strip(), title)


def _default_text(row: Any) -> str:
    """The row's text according to ir_datasets, e.g. a topic's title or a query's text."""
    text: str = row.default_text() if hasattr(row, "default_text") else row.text
    return text
