"""The console command `perank`: help without libraries, and sub-commands that are the modules' own mains."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perank.app.commands.console import COMMANDS, main
from support import toy

pytestmark = toy.QUIET


def test_help_lists_every_sub_command_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.command(main, "--help") == 0
    said = capsys.readouterr().out
    for name in ("train", "evaluate", "rank", "encode", "prepare", "tabulate", "doctor", "serve"):
        assert f"\n  {name} " in said
    assert "Rerank a TREC run" in said and max(map(len, said.splitlines())) <= 150
    assert toy.command(main) == 0
    assert capsys.readouterr().out == said


def test_help_loads_no_library() -> None:
    code = "import sys; from perank.app.commands.console import main; sys.argv = ['perank', '-h']; main(); "
    code += "print({'torch', 'hydra', 'numpy', 'fastapi', 'transformers'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.endswith("set()\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_sub_command_has_the_help_of_its_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.command(main, name, "--help") == 0
    said = capsys.readouterr().out
    assert f"perank.{'serving' if name == 'serve' else name}" in said


def test_another_word_is_refused_with_the_words_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.command(main, "rnak") == 2
    assert "no such command: 'rnak' (choose one of rank, evaluate" in capsys.readouterr().err
