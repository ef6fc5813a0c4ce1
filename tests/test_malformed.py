"""Malformed input of every kind is refused by name: `experiments/robustness/malformed.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "robustness" / "malformed.py"


def tried(*arguments: str) -> str:
    """The script's last line, all cases well refused."""
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    return ended.stdout.splitlines()[-1]


def test_text_files_are_refused_by_file_and_line() -> None:
    assert "refused, 0 unnamed, 0 traceback, 0 silent" in tried("--only", "TREC")


@pytest.mark.slow
def test_everything_malformed_is_refused_and_mutated_bytes_raise_nothing_else() -> None:
    assert tried("--fuzz", "100").endswith(", 0 with another exception")
