"""perank.rank on a tiny model: runs and JSON lines in, runs and JSON lines out, interrupted and resumed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from perank import Reranker
from perank.evaluation.ir_metadata import read_header
from perank.rank import main
from perank.records import Candidates, Ranking
from perank.retrieval.encoding import cached_store
from perank.sources.beir import TextFolder
from perank.sources.candidates import make_candidates
from perank.sources.ranked_output import ranked_output
from perank.sources.trec import read_run, write_run
from support import toy
from support.saved_models import save_tiny_model

pytestmark = toy.QUIET


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection without judgements, and a run over it of six queries with nine candidates each."""
    folder = tmp_path_factory.mktemp("collection") / "texts"
    toy.make_collection(folder)
    run = {f"q{q}": {f"p{(3 * q + i) % 40}": float(-i) for i in range(9)} for q in (3, 1, 4, 0, 5, 9)}
    write_run(folder / "first.trec", run, "first")
    for file in (folder / "qrels").iterdir():
        file.unlink()
    return folder


def candidates_of(folder: Path) -> list[Candidates]:
    run = read_run(folder / "first.trec")
    return make_candidates(TextFolder(folder), run, 100, list(run))


def ranked(model: Path, *arguments: str) -> int:
    settings = [f"model={model}", "dtype=float32", "device=cpu", "progress=false", f"hydra.run.dir={model.parent}/out"]
    return toy.command(main, *settings, *arguments)


def over(folder: Path) -> list[str]:
    return [f"run={folder}/first.trec", "collection=texts", f"collection.folder={folder}"]


@pytest.fixture(scope="module")
def expected(model: Path, folder: Path) -> dict[str, list[str]]:
    rankings = Reranker.from_pretrained(model, dtype="float32").rank_batch(candidates_of(folder))
    return {ranking.candidates.query.id: ranking.passage_ids for ranking in rankings}


def test_a_run_is_reranked_without_judgements(model: Path, folder: Path, expected: dict, tmp_path: Path) -> None:
    assert ranked(model, *over(folder), f"output={tmp_path}/new.trec") == 0
    found = orders(tmp_path / "new.trec", "trec")
    assert found == expected and list(found) == list(expected)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["new.trec"]


def test_a_run_has_a_header_on_request(model: Path, folder: Path, expected: dict, tmp_path: Path) -> None:
    assert ranked(model, *over(folder), f"output={tmp_path}/new.trec", "ir_metadata={actor:{team:ours}}") == 0
    header = read_header(tmp_path / "new.trec")
    assert header["tag"] == "perank" and header["actor"] == {"team": "ours"}
    assert header["method"]["retrieval"][1]["model"] == str(model)
    assert orders(tmp_path / "new.trec", "trec") == expected


def test_a_store_of_vectors_replaces_the_texts(model: Path, folder: Path, expected: dict, tmp_path: Path) -> None:
    encoder = Reranker.from_pretrained(model, dtype="float32").encoder
    cached_store("texts", TextFolder(folder).passages, encoder, tmp_path / "store")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "corpus.jsonl").write_text("not read\n")
    (bare / "queries.jsonl").write_text((folder / "queries.jsonl").read_text())
    words = [f"run={folder}/first.trec", "collection=texts", f"collection.folder={bare}", f"store={tmp_path}/store"]
    assert ranked(model, *words, f"output={tmp_path}/new.jsonl") == 0
    assert orders(tmp_path / "new.jsonl", "jsonl") == expected


def as_json(folder: Path, *, ids: bool = True) -> str:
    """The same requests as JSON lines."""
    rows = []
    for found in candidates_of(folder):
        passages = [{"id": p.id, "text": p.text} if ids else p.text for p in found.passages]
        rows.append({"id": found.query.id, "query": found.query.text, "passages": passages})
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_standard_input_is_ranked_to_standard_output(
    model: Path, folder: Path, expected: dict, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(as_json(folder, ids=False)))
    assert ranked(model, "input=-", "batch_size=2") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]  # nothing else is printed there
    by_id = {found.query.id: found for found in candidates_of(folder)}
    for row in rows:
        assert [by_id[row["id"]].passages[place["index"]].id for place in row["ranking"]] == expected[row["id"]]
        assert [place["rank"] for place in row["ranking"]] == [*range(1, 10)]
    assert [row["id"] for row in rows] == list(expected)


@pytest.mark.parametrize("form", ["trec", "jsonl"])
def test_an_interrupted_output_resumes_where_it_stopped(
    model: Path, folder: Path, expected: dict, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*over(folder), "batch_size=2", f"format={form}"]
    output, calls = tmp_path / "again", []
    rank_batch = Reranker.rank_batch

    def failing(self: Reranker, batch: list[Candidates]) -> list:
        calls.extend(found.query.id for found in batch)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return rank_batch(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Reranker, "rank_batch", failing)
        ranked(model, *command, f"output={output}")
    part = tmp_path / "again.part"
    content = part.read_bytes()
    assert len(content.splitlines()) == (4 if form == "jsonl" else 36)
    assert ranked(model, *command, "depth=5", f"output={output}") == 2  # other settings don't continue it
    part.write_bytes(content[:-40])  # a kill may tear the last line
    assert ranked(model, *command, f"output={output}") == 0
    assert orders(output, form) == expected
    assert not part.exists()


def orders(path: Path, form: str) -> dict[str, list[str]]:
    if form == "trec":
        run = read_run(path)
        return {id: sorted(scores, key=scores.__getitem__, reverse=True) for id, scores in run.items()}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: [place["id"] for place in row["ranking"]] for row in rows}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": "a sea", "passages": ["the rain"], "colour": 1}', "unknown key 'colour'"),
        ('{"query": " ", "passages": ["the rain"]}', "the query is empty"),
        ('{"query": "a sea", "passages": "the rain"}', "expected a list in 'passages'"),
        ('{"query": "a sea", "passages": [3]}', "passage number 0 (from 0) is neither a text nor an object"),
        ('{"query": "a sea", "passages": [{"id": "x"}]}', "expected text in 'text', found none"),
        ('{"query": "a sea"', "not JSON"),
    ],
)
def test_a_broken_line_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"query": "a sea otter", "passages": ["the rain", "bread"]}\n' + line + "\n")
    assert ranked(model, f"input={source}", f"output={tmp_path}/out.jsonl", "batch_size=1") == 2
    said = capsys.readouterr().err
    assert f"{source}:2" in said and message in said
    assert len((tmp_path / "out.jsonl.part").read_text().splitlines()) == 1  # the line before it is ranked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a run or an input"),
        (["run=missing.trec"], "a run holds ids alone"),
        (["run=missing.trec", "collection=texts", "collection.folder=."], "missing.trec: no such file"),
        (["input=-", "ir_metadata={}"], "only a TREC run in a file has a header"),
        (["input=-", "devices=0"], "devices is 0"),
        (["input=-", "devices=2", "device=cuda:1"], "device"),
        (["input=-", "format=csv"], "format has no such setting"),
        (["input=-", "window.step=9"], "leaves passages out"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    model: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"query": "a sea otter", "passages": ["the rain", "bread"]}\n'))
    assert ranked(model, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("form", ["trec", "jsonl"])
def test_torn_lines_of_the_last_query_are_written_again(folder: Path, tmp_path: Path, form: str) -> None:
    output, rankings = tmp_path / "out", [Ranking(found, tuple(range(9))) for found in candidates_of(folder)]
    for cut in range(0, 400, 7):
        with pytest.raises(InterruptedError), ranked_output(output, form, {}) as (_, write):
            write(rankings)
            raise InterruptedError
        part = tmp_path / "out.part"
        part.write_bytes(part.read_bytes()[: part.stat().st_size - cut])
        with ranked_output(output, form, {}) as (done, write):
            write([ranking for ranking in rankings if ranking.candidates.query.id not in done])
        assert list(orders(output, form).items()) == [(r.candidates.query.id, r.passage_ids) for r in rankings]
        output.unlink()
