"""Training that travels: pieces with digests, a config without its collections' code, snapshots that resume."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from perank.errors import BadInput
from perank.files import PACKAGE_DIR
from perank.reporting.rows import read_results_csv
from perank.training.checkpoints import newest_checkpoint, read_checkpoint
from support import toy

SCRIPTS = PACKAGE_DIR.parent.parent / "benchmarks" / "gpu"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS.parent))
    monkeypatch.syspath_prepend(str(SCRIPTS))


def box(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: object) -> None:
    settings = ["--smoke", "--device", "cpu", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", ["box", command, *settings])
    runpy.run_path(str(SCRIPTS / "box.py"), run_name="__main__")


def test_pieces_are_checked_and_only_whole_files_are_joined(tmp_path: Path) -> None:
    import parcels

    file = tmp_path / "file"
    file.write_bytes(bytes(range(250)))
    pieces = parcels.split(file, tmp_path / "parts", 100)
    assert [piece.stat().st_size for piece in pieces] == [100, 100, 50]
    carried, kept = tmp_path / "carried", tmp_path / "kept"
    for number, piece in enumerate(pieces):
        carried.mkdir()
        for name in (piece.name, parcels.MANIFEST):
            (carried / name).write_bytes((tmp_path / "parts" / name).read_bytes())
        assert len(parcels.receive(carried, kept)) == 2 - number
        if number < 2:
            with pytest.raises(BadInput, match=r"missing: .*file\.02"):
                parcels.join(kept, tmp_path / "joined")
        carried.rename(tmp_path / f"carried-{number}")
    assert parcels.join(kept, tmp_path / "joined").read_bytes() == file.read_bytes()
    (kept / pieces[1].name).write_bytes(b"x" * 100)
    with pytest.raises(BadInput, match="damaged"):
        parcels.join(kept, tmp_path / "again")
    assert not (tmp_path / "again" / "file").exists()


def test_a_recipe_travels_trains_in_time_and_resumes_from_a_snapshot_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, world: Path
) -> None:
    recipe = [o for o in toy.overrides(world) if not o.startswith("+experiment")]
    box(monkeypatch, "pack", "--recipe", "rank", "--parts", tmp_path / "parts", *recipe)
    first, second, into = tmp_path / "first", tmp_path / "second", tmp_path / "results.csv"
    for work in (first, second):
        box(monkeypatch, "receive", "--parts", tmp_path / "parts", "--work", work)
    pieces = tmp_path / "pieces"
    box(monkeypatch, "train", "--seconds", 0, "--work", first, "--snapshot", pieces, "--into", into)
    measured = {row.metric: row.value for row in read_results_csv(into)}
    assert (measured["finished"], measured["steps"]) == (0, 1)
    assert max(piece.stat().st_size for piece in pieces.iterdir()) <= 13_000_000
    box(monkeypatch, "restore", "--snapshot", pieces, "--work", second)
    restored = newest_checkpoint(second / "box" / "run")
    assert restored is not None
    assert moments(restored) == {torch.float32}
    box(monkeypatch, "train", "--work", second, "--snapshot", tmp_path / "last", "--into", into)
    measured = {row.metric: row.value for row in read_results_csv(into)}
    assert (measured["finished"], measured["steps"]) == (1, 12)
    assert (second / "box" / "run" / "model" / "model.safetensors").is_file()
    assert str(world / "collection") not in (second / "box" / "config.yaml").read_text()


def moments(checkpoint: Path) -> set[torch.dtype]:
    """Types of the optimizer's tensors."""
    (optimizer,) = read_checkpoint(checkpoint)["optimizer_states"]
    return {value.dtype for state in optimizer["state"].values() for value in state.values() if value.ndim}
