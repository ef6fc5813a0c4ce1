"""`make demo` on a toy world: two stages, one table, and nothing written outside outputs/."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from perank.files import PACKAGE_DIR
from perank.reporting.rows import read_results_csv
from perank.saving import hub
from perank.train import train
from support import toy

pytestmark = toy.QUIET
QUICKSTART = PACKAGE_DIR.parent.parent / "experiments" / "quickstart"
SYSTEMS = ["Bm25", "encoder", "fusion", "PE-Rank, aligned only", "PE-Rank", "PE-Rank+", "control: vectors shuffled"]


@pytest.fixture(scope="module")
def packaged(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("packaged")
    more = ["anchors=plus", "anchors.llm=6", "data.rows=8", "evaluate=false"]
    train(toy.composed(world, output, "rank", *more))
    return output / "model"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(QUICKSTART)
    spec = importlib.util.spec_from_file_location("demo", QUICKSTART / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo(
    script: ModuleType, world: Path, packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The script, with the toy world's settings in place of its own."""
    (tmp_path / "here").mkdir()
    settings = {
        "ALIGN": toy.overrides(world, "align"),
        "RANK": [*toy.overrides(world, "rank"), "loss.distil=1.0"],
        "SAMPLE": [],
        "HERE": tmp_path / "here",
        "OUTPUT": tmp_path / "outputs",
    }
    for name, value in settings.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(hub, "BOX", packaged)
    return script


def test_it_trains_both_stages_and_compares_all_systems(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main([])
    rows = read_results_csv(tmp_path / "outputs" / "results.csv")
    assert list(dict.fromkeys(row.system for row in rows)) == SYSTEMS
    compared = {row.baseline for row in rows if row.system == "PE-Rank"}
    assert compared == {"", "Bm25", "encoder", "fusion", "PE-Rank, aligned only", "control: vectors shuffled"}
    printed = capsys.readouterr().out
    assert all(name in printed for name in SYSTEMS)
    assert "on 40 passages" in printed
    assert "on 48 rows" in printed
    assert "PE-Rank+: the packaged model, not trained here" in printed
    assert "| PE-Rank+ |" in (tmp_path / "outputs" / "table.md").read_text()
    assert list((tmp_path / "here").iterdir()) == []


def test_record_renews_the_committed_example_and_settings_hold_for_both_stages(
    demo: ModuleType, tmp_path: Path
) -> None:
    demo.main(["--record", "seed=7", "data.batch_size=8"])
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == ["results.csv", "results.png", "table.md"]
    assert {row.seed for row in read_results_csv(tmp_path / "here" / "results.csv")} == {7}
    assert max(toy.losses(tmp_path / "outputs" / "align")) == 4  # 40 rows in batches of 8
    assert max(toy.losses(tmp_path / "outputs" / "rank")) == 5


@pytest.mark.parametrize("stage", ["ALIGN", "RANK"])
def test_its_own_settings_compose(script: ModuleType, tmp_path: Path, stage: str) -> None:
    config = script.composed([*getattr(script, stage), *script.SAMPLE], tmp_path)
    assert config.collection.collection.limit == config.suite.pydocs.collection.limit == 4000
    assert config.start is None and config.projector.scale == 20
    assert Path(script.OUTPUT).relative_to(PACKAGE_DIR.parent.parent).parts[0] == "outputs"
