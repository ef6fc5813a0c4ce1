"""Metrics where neither the installation nor a home can be written: known before ranking, and worked around."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.files import cache_dir

# What numba is left with where it can write nowhere: the folder that a setting names.
MEASURE = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator]
from perank.evaluation.metrics import measure
print(measure({"q": {"d": 1}}, {"q": {"d": 1.0}}, ["ndcg@10"]))
"""


def python(code: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | changes
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_metrics_are_compiled_into_our_cache_where_numba_finds_no_folder(tmp_path: Path) -> None:
    ended = python(MEASURE, PERANK_CACHE=str(tmp_path))
    assert ended.stdout == "{'ndcg@10': {'q': 1.0}}\n", ended.stderr[-2000:]
    assert list((tmp_path / "numba").rglob("*.nbi"))


def test_no_folder_at_all_is_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = python(MEASURE, PERANK_CACHE=str(tmp_path / "file"))
    assert "BadInput" in ended.stderr and "set PERANK_CACHE or NUMBA_CACHE_DIR" in ended.stderr


def test_a_user_without_a_home_is_told_of_perank_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PERANK_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(BadInput, match="set PERANK_CACHE to a folder"):
        cache_dir()
    monkeypatch.setenv("PERANK_CACHE", "/somewhere")
    assert cache_dir() == Path("/somewhere")
