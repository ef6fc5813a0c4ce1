"""docs/serving.md: its commands are run, on a tiny model."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from pathlib import Path

import httpx
import pytest

from perank import Reranker
from perank.app.commands.console import COMMANDS
from perank.files import PACKAGE_DIR
from perank.rank import main as rank
from perank.serving.application import make_app
from perank.serving.command import parser
from perank.sources.trec import read_run, write_run
from support import toy
from support.saved_models import save_tiny_model
from support.served import serving

pytestmark = toy.QUIET
DOCUMENT = (PACKAGE_DIR.parent.parent / "docs" / "serving.md").read_text(encoding="utf-8")
(REQUESTS,) = re.findall(r'^```json title="requests.jsonl"\n(.*?)^```', DOCUMENT, re.MULTILINE | re.DOTALL)
SHELL = [line for block in re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.M | re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands read."""
    toy.make_collection(tmp_path / "corpus")
    write_run(tmp_path / "first.trec", {f"q{q}": {f"p{q + i}": -float(i) for i in range(6)} for q in range(3)}, "x")
    (tmp_path / "requests.jsonl").write_text(REQUESTS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(start: str) -> list[list[str]]:
    """The document's commands that begin so, up to a pipe."""
    found = [
        shlex.split(line.partition(" | ")[0])[len(shlex.split(start)) :] for line in SHELL if line.startswith(start)
    ]
    assert found, f"docs/serving.md has no command {start}"
    return found


def test_the_commands_rerank(
    project: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in words("python -m perank.rank"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(REQUESTS))
        assert toy.command(rank, *arguments, f"model={model}", "hydra.run.dir=out", "progress=false") == 0
    assert {id: len(scores) for id, scores in read_run("reranked.trec").items()} == {"q0": 6, "q1": 6, "q2": 6}
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    written = [json.loads(line) for line in Path("rankings.jsonl").read_text().splitlines()]
    for rows in (printed, written):
        assert [row["id"] for row in rows] == ["1", "q2"]
        assert sorted(place["id"] for place in rows[1]["ranking"]) == ["a", "b"]


def test_the_requests_are_answered(model: Path) -> None:
    (serve,) = words("perank serve")
    assert parser().parse_args(serve).port == 8000
    assert all(name in COMMANDS for name in re.findall(r"`perank (\w+) ", DOCUMENT))
    with serving(make_app(Reranker.from_pretrained(model), "box")) as address:
        for arguments in words("curl -s"):
            url = arguments[0].replace("localhost:8000", address)
            options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
            name, _, value = options.get("-H", "accept: */*").partition(": ")
            method = "POST" if "-d" in options else "GET"
            answer = httpx.request(method, url, content=options.get("-d"), headers={name: value})
            assert answer.status_code == 200, answer.text
            if "-d" in options:
                body = json.loads(options["-d"])
                assert len(answer.json()["results"]) == body.get("top_n", len(body["documents"]))


def test_every_option_that_the_page_names_exists() -> None:
    options = {option for action in parser()._actions for option in action.option_strings}
    assert {*re.findall(r"`(--[\w-]+)", DOCUMENT)} <= options


def test_the_loads_are_those_that_were_measured() -> None:
    path = PACKAGE_DIR.parent.parent / "experiments" / "serving" / "load.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "box"]
    shown = "| {load}, {by} | {ranked_s} | {p50}, {p95}, {p99} | {responses} | {peak_mib} |"
    assert rows and all(shown.format(**row) in DOCUMENT for row in rows)
    assert all(row["equal"] == "50 of 50" for row in rows)
