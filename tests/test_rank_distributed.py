"""perank.rank in two processes on the CPU (gloo): the file of one process, byte for byte, and the same refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perank.sources.trec import write_run
from support import toy
from support.saved_models import save_tiny_model

CONSOLE = "from perank.app.commands.console import main; main()"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Rank 11 queries of nine candidates in batches of two with a tiny model."""
    folder = tmp_path_factory.mktemp("rank")
    toy.make_collection(folder / "texts")
    run = {f"q{q}": {f"p{(3 * q + i) % 40}": float(-i) for i in range(9)} for q in range(11)}
    write_run(folder / "first.trec", run, "first")
    model = save_tiny_model(folder)
    settings = ["dtype=float32", "device=cpu", "progress=false", "batch_size=2", f"hydra.run.dir={folder}/out"]
    collection = ["collection=texts", f"collection.folder={folder}/texts", f"run={folder}/first.trec"]
    return [sys.executable, "-c", CONSOLE, "rank", f"model={model}", *settings, *collection]


def ranked(command: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_two_processes_write_the_file_of_one_and_resume_its_part(command: list[str], tmp_path: Path) -> None:
    one, two = tmp_path / "one.trec", tmp_path / "two.trec"
    assert ranked(command, f"output={one}").returncode == 0
    ended = ranked(command, f"output={two}", "devices=2")
    assert ended.returncode == 0, ended.stderr
    assert "2 processes" in ended.stderr
    assert two.read_bytes() == one.read_bytes()

    part, settings = tmp_path / "two.trec.part", tmp_path / "two.trec.settings.json"
    two.unlink()
    part.write_bytes(b"".join(one.read_bytes().splitlines(keepends=True)[: 9 * 3 + 4]))  # as a kill leaves it
    settings.unlink(missing_ok=True)
    assert ranked(command, f"output={two}", "devices=2").returncode == 0
    assert two.read_bytes() == one.read_bytes() and not part.exists()


def test_an_error_of_the_second_process_ends_the_command_with_its_reason(command: list[str], tmp_path: Path) -> None:
    source, fits = tmp_path / "in.jsonl", '{"query": "a sea otter", "passages": ["the rain", "bread"]}\n'
    source.write_text(2 * fits + fits.replace("a sea", 3000 * "a sea ") + fits)  # the third query is its first
    words = [word for word in command if not word.startswith(("run=", "collection"))]
    ended = ranked(words, f"input={source}", f"output={tmp_path}/out.jsonl", "devices=2")
    assert ended.returncode == 2, ended.stderr
    assert "without any passage text to shorten" in ended.stderr and "Traceback" not in ended.stderr
