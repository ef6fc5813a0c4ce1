"""Every command line runs, or ends with exit code 2 and one message: `experiments/robustness/fuzz_commands.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import toy
from support.command_lines import ENTRIES, choices, good_line, settings_of
from support.entry_points import outcome

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "robustness" / "fuzz_commands.py"
pytestmark = toy.QUIET


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make_world(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("entry", ["encode", "prepare"])
def test_a_good_line_runs(folder: Path, entry: str) -> None:
    assert outcome(entry, good_line(entry), folder) == "ran"


@pytest.mark.parametrize(
    "line",
    [
        "encode trainer=ddp",
        "encode trainer.accelerator=tpu",
        "encode ~encoder._target_",
        "encode folder=",
        "encode encoder.device=meta",
        "encode encoder.name='a",
        "encode --resolve",
        "prepare preparation.output=",
        "prepare ~preparation._target_",
        "rank model=nowhere",
        "rank input=nowhere\udcff.jsonl",
        "tabulate nowhere",
        "serve --port 99999",
        "perank RANK",
    ],
)
def test_a_line_that_is_wrong_is_refused(folder: Path, line: str) -> None:
    entry, *arguments = line.split()
    assert outcome(entry, [*(good_line(entry) if entry in ENTRIES else []), *arguments], folder) == "refused"


def test_what_else_happens_is_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from perank import tabulate

    monkeypatch.setattr(tabulate, "tabulate", lambda *_: {}["a bug"])
    assert outcome("tabulate", ["nowhere"], folder).startswith("KeyError in tabulate.py:")


def test_strategies_know_the_settings_and_choices_that_exist() -> None:
    assert "encoder.max_length=32" in settings_of("encode")
    assert {"encoder=minilm", "suite=beir"} <= set(choices())


@pytest.mark.slow
def test_random_command_lines_run_or_are_refused() -> None:
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--examples", "100"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    assert ended.stdout.splitlines()[-1].endswith(", 0 with another exception")
