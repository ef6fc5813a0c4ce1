"""Two processes on the CPU (gloo) through the command line: the losses, weights and metrics of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perank.sources.trec import read_run
from support import toy

pytestmark = pytest.mark.slow
TWO = ["trainer.devices=2", "+trainer.strategy=ddp", "data.batch_size=4"]
ONE = ["data.batch_size=8"]


def run(world: Path, output: Path, stage: str, *more: str, code: int = 0) -> str:
    """`python -m perank.train` in a process of its own; what it said."""
    arguments = [*(["-m"] if "-m" in more else []), *toy.overrides(world, stage), *(m for m in more if m != "-m")]
    command = [sys.executable, "-m", "perank.train", *arguments, f"hydra.run.dir={output}"]
    own = {"PERANK_CACHE": str(output.parent / "cache"), "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}
    ended = subprocess.run(
        command, cwd=output.parent, env=os.environ | own, capture_output=True, text=True, timeout=900, check=False
    )
    assert ended.returncode == code, ended.stderr[-4000:]
    return ended.stderr


def compare(one: Path, two: Path) -> None:
    """Losses to 1e-5, weights to rounding, rankings and metrics equal."""
    losses = toy.losses(one), toy.losses(two)
    assert losses[0].keys() == losses[1].keys()
    assert len(losses[0]) > 4
    for step, loss in losses[0].items():
        assert losses[1][step] == pytest.approx(loss, abs=1e-5), step
    states = [load_file(output / "projector.safetensors") for output in (one, two)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)
    assert read_run(two / "beir.PE-Rank.trec") == read_run(one / "beir.PE-Rank.trec")
    found = [json.loads((output / "metrics.json").read_text())["beir/PE-Rank"] for output in (one, two)]
    assert found[0]["means"] == found[1]["means"]
    assert found[0]["n_queries"] == found[1]["n_queries"] == 5
    assert found[0]["costs"]["forwards_per_query"] == found[1]["costs"]["forwards_per_query"]


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("align", []),
        ("rank", ["backbone.lora.dropout=0"]),  # two processes draw other masks than one
        ("rank", ["backbone.lora=null", "loss=paper", "data.rows=40"]),
    ],
    ids=["align", "rank", "full fine-tuning with texts"],
)
def test_two_processes_train_as_one_with_twice_the_batch(
    world: Path, tmp_path: Path, stage: str, settings: list[str]
) -> None:
    run(world, tmp_path / "one", stage, *ONE, *settings)
    run(world, tmp_path / "two", stage, *TWO, *settings)
    compare(tmp_path / "one", tmp_path / "two")


def test_two_processes_resume_to_the_same_weights_with_dropout_of_their_own(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "whole", "rank", *TWO, "evaluate=false")
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-000005.ckpt"
    assert len(torch.load(checkpoint, weights_only=True)["random_states"]) == 2
    run(world, tmp_path / "resumed", "rank", *TWO, "evaluate=false", f"ckpt_path={checkpoint}")
    assert toy.weights(tmp_path / "resumed") == toy.weights(tmp_path / "whole")


def test_bad_input_in_both_processes_ends_the_command(world: Path, tmp_path: Path) -> None:
    said = run(world, tmp_path / "bad", "rank", *TWO, "data.batch_size=400", "data.rows=400", code=2)
    assert "fewer than one step of 400 on each of 2 devices" in said


def test_a_sweep_gives_every_job_its_own_devices_and_goes_on_after_a_failed_one(world: Path, tmp_path: Path) -> None:
    swept = [s for s in TWO if "batch" not in s] + ["data.batch_size=4,400,2", "data.rows=8", "evaluate=false"]
    said = run(world, tmp_path / "unused", "rank", "-m", *swept, f"hydra.sweep.dir={tmp_path}/sweep", code=2)
    left = [(tmp_path / "sweep" / job / "model" / "config.json").is_file() for job in "012"]
    assert left == [True, False, True]
    assert "fewer than one step of 400" in json.loads((tmp_path / "sweep" / "1" / "failed.json").read_text())["message"]
    assert "1 of the sweep's jobs failed" in said
