"""SIGKILL in the middle of training: `experiments/robustness/kill_training.py`, in small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "robustness" / "kill_training.py"


@pytest.mark.slow
def test_killed_runs_end_with_the_weights_of_one_that_was_not() -> None:
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", "2", "--seed", "5"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
    assert re.search(r"^2 kills, 2 final checksums equal", ended.stdout, re.MULTILINE)
