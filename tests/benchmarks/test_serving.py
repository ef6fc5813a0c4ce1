"""The benchmark of the server on a tiny model: every load is answered, with the reranker's rankings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.saved_models import save_tiny_model

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serving.py"


def test_every_load_is_answered_with_the_rerankers_rankings(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--tiny", "--model", str(save_tiny_model(tmp_path))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    rows = re.findall(r"^(\d+ (?:at once|mixed).{20,}?)  (\d+ x .+)$", ran.stdout, re.MULTILINE)
    assert [answers for _, answers in rows] == ["6 x 200"] * 4 + ["30 x 200"] * 4
    equal = re.findall(r"(\d+) of (\d+) rankings equal", ran.stdout)
    assert equal == [("10", "10"), ("10", "10")]
    assert "server memory, MiB: " in ran.stdout
