"""Alignment on demand: trained once for all runs that ask for the same, anew where its config differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from perank.app import alignment as aligned
from perank.app.alignment import aligned_projector
from perank.train import train
from support import toy

pytestmark = toy.QUIET


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Overrides of the alignments that were trained; each leaves an empty projector."""
    asked: list[list[str]] = []

    def leave(module: str, folder: Path, overrides: Sequence[str]) -> None:
        asked.append(list(overrides))
        folder.mkdir(parents=True)
        (folder / "projector.safetensors").write_bytes(b"")

    monkeypatch.setattr(aligned, "in_own_process", leave)
    return asked


def config(*more: str, path: str | None = None, first: bool = True) -> DictConfig:
    alignment = {"first": first, "overrides": ["+experiment=align"], "more": list(more)}
    return OmegaConf.create({"alignment": alignment, "projector": {"path": path}})


def test_the_same_alignment_is_trained_once(trained: list[list[str]], own_cache: Path) -> None:
    first, again = aligned_projector(config()), aligned_projector(config())
    assert first == again is not None
    assert Path(first or "").parent.parent == own_cache / "aligned"
    assert trained == [["+experiment=align", "evaluate=false", f'ckpt_path="{Path(first or "").parent}"']]
    assert aligned_projector(config("data.rows=7")) != first
    assert len(trained) == 2


def test_a_run_that_asks_for_none_or_names_a_projector_gets_none(trained: list[list[str]]) -> None:
    assert aligned_projector(config(first=False)) is None
    assert aligned_projector(config(path="projector.safetensors")) is None
    assert trained == []


@pytest.mark.slow
def test_a_run_starts_from_the_alignment_it_asked_for(tmp_path: Path, own_cache: Path) -> None:
    world = toy.make_world(tmp_path / "world")
    stage_1 = ",".join(f'"{override}"' for override in toy.overrides(world, "align"))
    asked = ["alignment.first=true", f"alignment.overrides=[{stage_1}]", "data.rows=8"]
    train(toy.composed(world, tmp_path / "run", "rank", *asked))
    (made,) = (own_cache / "aligned").glob("*/projector.safetensors")
    assert made.with_name("metrics.csv").is_file()
    assert (tmp_path / "run" / "model").is_dir()
