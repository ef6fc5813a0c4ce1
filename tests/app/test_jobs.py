"""The command line: exit codes, and sweeps that go on; `experiments/robustness` tries many more settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perank.train import main
from support import toy

pytestmark = toy.QUIET


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encodr.name=x"], "encodr"),
        (["encoder=minilmm"], "minilm"),
        (["+encoder.nam=x"], "encoder.nam"),
        (["+sede=1"], "sede"),
        (["ckpt_path=none.ckpt"], "none.ckpt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_settings_end_with_exit_code_2_and_one_message(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    arguments: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert toy.command(main, *toy.overrides(world), *arguments, f"hydra.run.dir={tmp_path}/run") == 2
    error = capfd.readouterr().err
    message = error[error.index("perank: ") :]
    assert said in message
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--resolve"],
        ["--cfg", "job", "--info", "config"],
        ["--cfg", "job", "--package", "nowhere"],
        ["-m", "--run"],
        ["--shell-completion"],
        ["--experimental-rerun", "nowhere"],
        ["--experimental-rerun", "a file"],
        ["hydra.job_logging.handlers=null"],
        ["hydra.callbacks.folder._target_=nowhere.X"],
    ],
    ids=" ".join,
)
def test_what_hydra_itself_cannot_use_ends_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("no pickle")
    assert toy.command(main, *arguments) == 2
    error = capfd.readouterr().err
    assert "Hydra can't use this command line" in error or "not found in config" in error
    assert "Traceback" not in error


def test_a_sweep_goes_on_after_a_failed_job_and_says_so(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    swept = ["data.batch_size=4,400,8", "evaluate=false", "data.rows=16", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert toy.command(main, "-m", *toy.overrides(world), *swept) == 2
    assert [(tmp_path / "sweep" / job / "model" / "config.json").is_file() for job in "012"] == [True, False, True]
    note = json.loads((tmp_path / "sweep" / "1" / "failed.json").read_text())
    assert note["error"] == "BadInput"
    assert "fewer than one step of 400" in note["message"]
    assert not (tmp_path / "sweep" / "0" / "failed.json").exists()
    assert "1 of the sweep's jobs failed" in capfd.readouterr().err


@pytest.mark.slow
def test_a_bug_in_one_job_of_a_sweep_keeps_its_traceback_and_the_others_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perank.training.rank import RankModule

    monkeypatch.chdir(tmp_path)
    step = RankModule.training_step

    def broken(self: RankModule, batch: Any, index: int) -> Any:
        if self.loss.first_weight == 3.0:
            raise ZeroDivisionError("a bug")
        return step(self, batch, index)

    monkeypatch.setattr(RankModule, "training_step", broken)
    swept = ["loss.first_weight=3,1", "evaluate=false", "data.rows=8", f"hydra.sweep.dir={tmp_path}/sweep"]
    with pytest.raises(ZeroDivisionError):
        toy.command(main, "-m", *[o for o in toy.overrides(world) if "first_weight" not in o], *swept)
    assert "in broken" in json.loads((tmp_path / "sweep" / "0" / "failed.json").read_text())["traceback"]
    assert (tmp_path / "sweep" / "1" / "model" / "config.json").is_file()
