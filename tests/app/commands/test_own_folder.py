"""Two commands never write to one output folder: the second gets another name, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from perank.app import jobs
from perank.app.commands.own_folder import LOCK, OwnFolder
from perank.errors import exits_cleanly
from perank.files import file_lock
from support import toy


def config(folder: Path, *overrides: str) -> DictConfig:
    hydra = {"run": {"dir": str(folder)}, "sweep": {"dir": str(folder)}, "overrides": {"hydra": [*overrides]}}
    return OmegaConf.create({"hydra": hydra})


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("event", "key"), [("on_run_start", "run"), ("on_multirun_start", "sweep")])
def test_commands_of_one_second_get_folders_of_their_own(tmp_path: Path, event: str, key: str) -> None:
    held, names = [], []
    for _ in range(3):
        settings, callback = config(tmp_path / "12-00-00"), OwnFolder()
        getattr(callback, event)(settings)
        held.append(callback)
        names.append(Path(settings.hydra[key].dir).name)
    assert names == ["12-00-00", "12-00-00-2", "12-00-00-3"]


def test_a_folder_that_a_finished_run_left_is_not_written_to_again(tmp_path: Path) -> None:
    first, second = config(tmp_path / "12-00-00"), config(tmp_path / "12-00-00")
    callback = OwnFolder()
    callback.on_run_start(first)
    (tmp_path / "12-00-00" / "metrics.json").write_text("{}")
    callback.on_run_end(first)
    OwnFolder().on_run_start(second)
    assert second.hydra.run.dir.endswith("12-00-00-2")


def test_a_named_folder_is_used_again_once_the_other_process_has_ended(tmp_path: Path) -> None:
    settings = config(tmp_path, f"hydra.run.dir={tmp_path}")
    first = OwnFolder()
    first.on_run_start(settings)
    with pytest.raises(SystemExit) as ended:
        OwnFolder().on_run_start(settings)
    assert ended.value.code == 2
    first.on_run_end(settings)
    OwnFolder().on_run_start(settings)
    assert settings.hydra.run.dir == str(tmp_path)


def test_processes_of_one_run_share_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, settings = OwnFolder(), config(tmp_path / "x")
    first.on_run_start(settings)
    monkeypatch.setenv("LOCAL_RANK", "1")
    OwnFolder().on_run_start(settings)
    assert settings.hydra.run.dir == str(tmp_path / "x")


def _command(*arguments: str) -> tuple[int, list[str]]:
    outputs: list[str] = []

    def task(composed: DictConfig) -> Any:
        outputs.append(str(composed.paths.output))

    @exits_cleanly
    def main() -> None:
        jobs.run("encode", task)

    return toy.command(main, *arguments), outputs


def test_a_second_command_in_a_named_folder_leaves_the_first_ones_config_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _command("batch_size=3", f"hydra.run.dir={tmp_path}/run")[0] == 0
    written = (tmp_path / "run" / ".hydra" / "config.yaml").read_text()
    with file_lock(tmp_path / "run" / LOCK):
        code, outputs = _command("batch_size=4", f"hydra.run.dir={tmp_path}/run")
    assert (code, outputs) == (2, [])
    assert "another process is writing here" in capfd.readouterr().err
    assert (tmp_path / "run" / ".hydra" / "config.yaml").read_text() == written


def test_a_second_sweep_of_one_second_writes_all_its_jobs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OwnFolder, "_named", staticmethod(lambda asked, key: False), raising=True)
    sweep = ["-m", "batch_size=3,4", f"hydra.sweep.dir={tmp_path}/12-00-00"]
    with file_lock(tmp_path / "12-00-00" / LOCK):
        code, outputs = _command(*sweep)
    assert code == 0
    assert outputs == [f"{tmp_path}/12-00-00-2/0", f"{tmp_path}/12-00-00-2/1"]
