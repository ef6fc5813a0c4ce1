"""Sweeps through Hydra's launchers: their settings compose, and what fails in another process is told."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from perank.errors import BadInput
from perank.files import CONF_DIR, write_json
from perank.train import _measured
from support import toy

PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "slurm": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "basic": "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
}


@pytest.mark.parametrize("trainer", ["fsdp", "deepspeed_zero2", "ddp"])
@pytest.mark.parametrize("experiment", ["align", "rank"])
def test_the_papers_scale_composes_with_every_trainer_and_launcher(experiment: str, trainer: str) -> None:
    for launcher, plugin in PLUGINS.items():
        overrides = [f"+experiment={experiment}", "scale=paper", f"trainer={trainer}", f"hydra/launcher={launcher}"]
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose("train", overrides=overrides, return_hydra_config=True)
        assert config.hydra.launcher._target_ == plugin
        if launcher == "slurm":
            settings = config.hydra.launcher
            assert (settings.nodes, settings.tasks_per_node, settings.gpus_per_node) == (1, 4, 4)
        rows = config.data.batch_size * config.trainer.devices * config.trainer.accumulate_grad_batches
        assert rows == {"align": 128, "rank": 32}[experiment]


def test_bad_input_comes_back_whole_from_another_process() -> None:
    error = BadInput("a broken line", remedy="mend it", path="rows.jsonl", line=3, id="q1")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.slow
def test_processes_of_their_own_run_every_job_and_a_failed_one_ends_the_sweep_with_exit_code_2(tmp_path: Path) -> None:
    world = toy.make_world(tmp_path / "world")
    jobs = [o for o in toy.overrides(world) if not o.startswith("data.batch_size")]
    launched = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *jobs, "data.batch_size=2,0,4"]
    command = [sys.executable, "-m", "perank.doctor", *launched]
    own = {"PERANK_CACHE": str(tmp_path / "cache"), "HYDRA_FULL_ERROR": "0"}
    ended = subprocess.run(
        [*command, f"hydra.sweep.dir={tmp_path}/sweep"],
        cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr[-3000:]
    assert "batch_size" in ended.stderr
    steps = [json.loads((tmp_path / "sweep" / job / "doctor.json").read_text())["work"]["steps"] for job in "02"]
    assert steps == [24, 12]
    assert "batch_size" in json.loads((tmp_path / "sweep" / "1" / "failed.json").read_text())["message"]


@pytest.mark.parametrize("system", ["PE-Rank", "PE-Rank+", "text listwise"])
def test_a_sweep_over_devices_goes_by_every_kind_of_trained_model(tmp_path: Path, system: str) -> None:
    means = {"Bm25": 0.25, "encoder": 0.5, system: 0.75}
    write_json(
        tmp_path / "metrics.json",
        {f"beir/{name}": {"system": name, "means": {"ndcg@10": mean}} for name, mean in means.items()},
    )
    assert _measured(tmp_path) == [0.75]
