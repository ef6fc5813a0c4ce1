"""Parts: an output is taken for finished only where everything about it is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.preparation.resumable import Resumable


def finished(path: Path, fingerprint: str = "a") -> Resumable:
    parts = Resumable(path, fingerprint)
    parts.write("x-0.json", 1)
    path.write_text("content\n")
    parts.finish({"kind": "test"})
    return parts


def test_a_finished_output_is_known_by_its_manifest_and_leaves_no_parts(tmp_path: Path) -> None:
    parts = finished(tmp_path / "out")
    manifest = parts.finished()
    assert manifest is not None
    assert (manifest["kind"], manifest["fingerprint"]) == ("test", "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.manifest.json"]


def test_nothing_there_is_not_finished_whatever_parts_there_are(tmp_path: Path) -> None:
    parts = Resumable(tmp_path / "out", "a")
    parts.write("x-1.json", 2)
    parts.write("x-0.json", 1)
    assert parts.finished() is None
    assert list(Resumable(tmp_path / "out", "a").read("x-")) == [1, 2]
    assert not Resumable(tmp_path / "out", "b").has("x-0.json")


@pytest.mark.parametrize("change", ["other settings", "changed", "no manifest", "broken manifest"])
def test_an_output_in_the_way_is_refused_and_kept(tmp_path: Path, change: str) -> None:
    path = tmp_path / "out"
    parts = finished(path)
    if change == "changed":
        path.write_text("other\n")
    elif change == "no manifest":
        parts.manifest_path.unlink()
    elif change == "broken manifest":
        parts.manifest_path.write_text("[]")
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"remove it, or name another preparation\.output"):
        Resumable(path, "b" if change == "other settings" else "a").finished()
    assert path.read_bytes() == before
