"""Datasets of ir_datasets, local ones registered for the test; nothing is fetched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perank.errors import BadInput
from perank.records import Passage, Query
from perank.sources.candidates import make_candidates
from perank.sources.irds import IrdsCollection
from support.forked import fork

ir_datasets = pytest.importorskip("ir_datasets")


class TitledDoc(NamedTuple):
    """What BEIR's and PMC's documents look like, in one."""

    doc_id: str
    title: str
    abstract: str
    body: str


class OddDoc(NamedTuple):
    """A document with none of the usual text fields."""

    doc_id: str
    title: str
    claim: str

    def default_text(self) -> str:
        return f"{self.title} {self.claim}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ir_datasets, "registry", ir_datasets.util.Registry())
    return tmp_path


def local(path: Path, text: str) -> Any:
    path.write_text(text, encoding="utf-8")
    return ir_datasets.util.Cache(ir_datasets.util.LocalDownload(path), path)


def register(id: str, *parts: Any) -> None:
    ir_datasets.registry.register(id, ir_datasets.Dataset(*parts))


def toy(home: Path, queries: str = "q2\tsecond query\nq1\tfirst query\n") -> IrdsCollection:
    from ir_datasets import formats

    register(
        "toy/test",
        formats.TsvDocs(local(home / "docs.tsv", "d2\ttwo words\nd1\tone\nd3\tthree\n"), namespace="toy", lang="en"),
        formats.TsvQueries(local(home / "queries.tsv", queries), namespace="toy", lang="en"),
        formats.TrecQrels(local(home / "qrels", "q1 0 d1 1\nq1 0 d1 3\nq1 0 d1 2\nq2 0 d3 -1\n"), {}),
        formats.TrecScoredDocs(local(home / "scored", "q1 0 d2 1 2.5 t\nq1 0 d1 2 0.5 t\n")),
    )
    return IrdsCollection("toy/test")


def test_a_dataset_is_a_collection(home: Path) -> None:
    collection = toy(home)
    assert collection.name == "toy/test"
    assert list(collection.queries.values()) == [Query("q2", "second query"), Query("q1", "first query")]
    assert collection.qrels == {"q1": {"d1": 3}, "q2": {"d3": -1}}
    assert dict(collection.runs) == {"scoreddocs": {"q1": {"d2": 2.5, "d1": 0.5}}}


def test_passages_are_looked_up_and_streamed_in_the_datasets_order(home: Path) -> None:
    passages = toy(home).passages
    assert passages["d2"] == Passage("d2", "two words")
    assert list(passages) == ["d2", "d1", "d3"]
    assert list(passages.items()) == [(id, passages[id]) for id in passages]
    assert list(passages.values()) == [passages[id] for id in passages]
    assert len(passages) == 3
    assert "d1" in passages
    assert "d9" not in passages
    with pytest.raises(KeyError):
        passages["d9"]


def test_going_through_the_passages_never_looks_them_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = toy(home).passages
    monkeypatch.setattr(ir_datasets.indices.Docstore, "get", lambda *_: pytest.fail("looked up"))
    assert [passage.id for passage in passages.values()] == [id for id, _ in passages.items()]


def openings(caplog: pytest.LogCaptureFixture) -> int:
    """How often ir_datasets has logged that it opened a document store."""
    return sum("Opening" in record.getMessage() for record in caplog.records)


def test_a_thread_opens_the_document_store_once(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    collection = toy(home)
    passages = collection.passages
    expected = {passage.id: passage for passage in passages.values()}
    before = openings(caplog)
    for _ in range(3):
        assert passages.get_many(["d3", "d9", "d1"]) == {id: expected[id] for id in ("d3", "d1")}  # type: ignore[attr-defined]
        assert passages["d2"] == expected["d2"]
    found = make_candidates(collection, {"q1": {"d1": 2.0, "d3": 1.0}, "q2": {"d2": 1.0}}, depth=2)
    assert [c.passages for c in found] == [(expected["d2"],), (expected["d1"], expected["d3"])]
    assert openings(caplog) - before == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(passages.__getitem__, "d1").result() == expected["d1"]
    assert openings(caplog) - before == 2


def test_a_forked_worker_opens_the_document_store_again(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    passages = toy(home).passages
    assert passages["d2"].text == "two words"
    before = openings(caplog)

    def look_up() -> None:
        assert [passages[id].text for id in ("d1", "d2", "d1")] == ["one", "two words", "one"]
        assert openings(caplog) - before == 1

    assert os.waitpid(fork(look_up), 0)[1] == 0


def test_passages_are_counted_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passages = toy(home).passages
    monkeypatch.setattr(ir_datasets.formats.TsvDocs, "docs_count", lambda _: None)  # as before there is an index
    assert len(passages) == 3
    monkeypatch.setattr(passages, "stream", lambda: pytest.fail("counted again"))
    assert len(passages) == 3


def test_titles_are_kept_apart_and_text_fields_found(home: Path) -> None:
    from ir_datasets import formats

    rows = "d1\tT\tan abstract\tand a body\nd2\tT\t\tbody alone\nd3\tT\t\t\n"
    register("titled", formats.TsvDocs(local(home / "a.tsv", rows), doc_cls=TitledDoc))
    register("odd", formats.TsvDocs(local(home / "b.tsv", "d1\tT\ta claim\n"), doc_cls=OddDoc))
    assert list(IrdsCollection("titled").passages.values()) == [
        Passage("d1", "an abstract\nand a body", "T"),
        Passage("d2", "body alone", "T"),
        Passage("d3", "", "T"),
    ]
    assert list(IrdsCollection("odd").passages.values()) == [Passage("d1", "a claim", "T")]


def test_a_dataset_without_judgements_or_runs_has_none(home: Path) -> None:
    from ir_datasets import formats

    register("docs", formats.TsvDocs(local(home / "a.tsv", "d1\tone\n")))
    collection = IrdsCollection("docs", name="mine")
    assert (collection.name, collection.qrels, dict(collection.runs)) == ("mine", {}, {})
    with pytest.raises(BadInput, match="has no queries"):
        collection.queries  # noqa: B018


def test_an_empty_query_is_refused_by_id(home: Path) -> None:
    with pytest.raises(BadInput, match="query is empty") as caught:
        toy(home, "q1\t \n").queries  # noqa: B018
    assert caught.value.id == "q1"


def test_what_cannot_be_fetched_is_refused_with_the_cause(home: Path) -> None:
    collection = toy(home)
    for name in ("docs.tsv", "queries.tsv", "qrels", "scored"):
        (home / name).unlink()
    for read in (
        lambda: collection.queries,
        lambda: collection.qrels,
        lambda: collection.runs["scoreddocs"],
        lambda: list(collection.passages),
        lambda: collection.passages["d1"],
    ):
        with pytest.raises(BadInput, match="can't supply"):
            read()


def test_a_line_that_ir_datasets_cannot_parse_is_refused(home: Path) -> None:
    with pytest.raises(BadInput, match="expected 2 fields"):
        toy(home, "no tab\n").queries  # noqa: B018


def test_an_unknown_id_is_refused_with_a_suggestion() -> None:
    with pytest.raises(BadInput, match="beir/nfcorpus/test"):
        IrdsCollection("beir/nfcorpus/tset")
    with pytest.raises(BadInput, match="catalogue"):
        IrdsCollection("0" * 40)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ir_datasets.util.RequestsDownload, "stream", lambda *_: pytest.fail("wanted to download"))


@pytest.mark.parametrize(
    ("id", "has_runs"),
    [("msmarco-passage/trec-dl-2019/judged", True), ("beir/nfcorpus/test", False), ("beir/webis-touche2020/v2", False)],
)
def test_real_ids_resolve_without_fetching_anything(offline: None, id: str, has_runs: bool) -> None:
    collection = IrdsCollection(id)
    assert ("scoreddocs" in collection.runs) is has_runs
    assert collection.passages is collection.passages
