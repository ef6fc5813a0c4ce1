"""The story of docs/training.md: one command trains on one's own BEIR folder and compares with the encoder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import toy

pytestmark = pytest.mark.slow


def test_one_command_trains_on_a_folder_and_says_how_it_compares_with_the_encoder(tmp_path: Path) -> None:
    world = toy.make_world(tmp_path / "world")
    document = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    words = ["collection=beir", "suite=beir", "collection.folder=<folder>", "suite.beir.collection.folder=<folder>"]
    assert all(word in document for word in words)
    story = [word.replace("<folder>", f"{world}/collection") for word in words]
    small = [o for o in toy.overrides(world) if not o.startswith(("collection", "suite=", "suite.beir.collection"))]
    own = {"PERANK_CACHE": str(tmp_path / "cache"), "HYDRA_FULL_ERROR": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "perank.train", *small, *story, f"hydra.run.dir={tmp_path}/run"],
        cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    sentence = r"beir: PE-Rank 0\.\d{4} (is above|is below|does not differ significantly from) {} \d\.\d{4} .*5 queries"
    for baseline in ("Bm25", "encoder", "fusion"):
        assert re.search(sentence.replace("{}", baseline), ended.stdout), ended.stdout
    assert (tmp_path / "run" / "model" / "config.json").is_file()
