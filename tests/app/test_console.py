"""What commands print: help that starts with examples, and runs without advertisements, bars or repeated lines."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import toy

pytestmark = toy.QUIET
HYDRAS = ("train", "evaluate", "rank", "encode", "prepare", "doctor", "efficiency")


@pytest.mark.parametrize("entry", [*HYDRAS, "tabulate"])
def test_help_begins_with_what_the_program_does_and_examples(entry: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"perank.{entry}")
    assert toy.command(module.main, "--help") == 0
    said = capsys.readouterr().out.removeprefix("usage: ")  # argparse's own first lines, of `tabulate`
    purpose = str(inspect.getdoc(module)).splitlines()[0]
    assert said.startswith(purpose) or said.splitlines()[2] == purpose
    assert len(re.findall(rf"^    python -m perank\.{entry}\b", said, re.MULTILINE)) in (4, 5, 6)


def test_help_lists_groups_settings_and_where_hydras_own_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    from perank.train import main

    toy.command(main, "-h", "+experiment=align")
    said = capsys.readouterr().out
    assert said.index("Examples:") < said.index("\nloss: ") < said.index("\nseed: 0\n") < said.index("--hydra-help")
    assert "perank.training.align.AlignModule" in said  # the settings of the choices given
    toy.command(main, "--hydra-help")
    assert "--multirun" in capsys.readouterr().out


@pytest.fixture(scope="module")
def said(world: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Everything that a training run writes to the terminal, one line per state of a progress bar."""
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "perank.train", *toy.overrides(world), f"hydra.run.dir={folder}"]
    own = {"PERANK_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    ended = subprocess.run(command, cwd=folder, env=os.environ | own, text=True, timeout=600, check=True, **pipes)
    return ended.stdout.replace("\r", "\n")


def test_a_run_says_everything_once(said: str) -> None:
    lines = [re.sub(r"^\[.*?\]\[.*?\]\[\w+\] - |^[A-Z]+: ", "", line) for line in said.splitlines() if line.strip()]
    assert any("`Trainer.fit` stopped" in line for line in lines)
    assert [line for line in lines if lines.count(line) > 1] == []


def test_a_run_advertises_nothing_and_shows_no_bar_for_weights_and_no_debugging(said: str) -> None:
    for unwanted in ("Tip", "litlogger", "litmodels", "Loading weights", "Writing model shards", "[DEBUG]", "TPU"):
        assert unwanted not in said, said
