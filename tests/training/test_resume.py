"""Whatever interrupts a run, resumed it ends with the weights it would have had: bit by bit, dropout included."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from perank.errors import BadInput
from perank.evaluation.callback import RankingEvaluation
from perank.train import main, train
from perank.training.checkpoints import read_checkpoint, resumed_from
from perank.training.rank import RankModule
from support import toy

pytestmark = toy.QUIET


class Interrupted(Exception):
    """As if the power had gone."""


def interrupted_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next run die in the middle of the step behind `steps`, its gradients computed."""

    def die(self: lightning.LightningModule, *_: Any) -> None:
        if self.global_step == steps:
            raise Interrupted

    monkeypatch.setattr(lightning.LightningModule, "on_before_optimizer_step", die)


@pytest.mark.parametrize("steps", [6, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 9, 11))])
def test_an_interrupted_run_goes_on_from_its_folder_and_ends_with_the_same_weights(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupted_after(steps, patch)
        train(toy.composed(world, tmp_path))
    assert not (tmp_path / "model").exists()
    scores = train(toy.composed(world, tmp_path, "rank", f"ckpt_path={tmp_path}"))
    assert toy.weights(tmp_path) == toy.weights(whole)
    assert toy.losses(tmp_path) == toy.losses(whole)
    assert (tmp_path / "beir.PE-Rank.trec").read_bytes() == (whole / "beir.PE-Rank.trec").read_bytes()
    assert scores == {"beir": pytest.approx(_ndcg(whole), abs=0)}


def _ndcg(output: Path) -> float:
    import json

    return float(json.loads((output / "metrics.json").read_text())["beir/PE-Rank"]["means"]["ndcg@10"])


def test_processor_seconds_are_those_of_all_attempts_and_not_of_other_jobs_in_the_process(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(attempt: int, step: int) -> float:
        clock = SimpleNamespace(process_time=itertools.count(1000.0 * attempt).__next__)
        for module in ("perank.training.stage", "perank.app.training_run"):
            monkeypatch.setattr(f"{module}.time", clock)
        with suppress(Interrupted):
            train(toy.composed(world, tmp_path, "rank", "evaluate=false", f"ckpt_path={tmp_path}"))
        return float(read_checkpoint(tmp_path / "checkpoints" / f"step-{step:06}.ckpt")["processor_seconds"])

    with monkeypatch.context() as patch:
        interrupted_after(6, patch)
        first = seconds(attempt=1, step=5)
    assert 0 < first < seconds(attempt=2, step=12) < 100


def test_a_checkpoint_has_the_keys_of_version_0_1_0(whole: Path) -> None:
    content = read_checkpoint(whole / "checkpoints" / "step-000005.ckpt")
    adapters = {
        f"llm.model.layers.0.self_attn.{name}_proj.lora_{half}.default.weight" for name in "qv" for half in "AB"
    }
    projector = {f"projector.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")}
    assert content["state_dict"].keys() == {f"model.{name}" for name in {*adapters, *projector, "score_scale"}}
    stream = {"consumed": 20, "rows": 48, "epochs": 1, "seed": 0, "batch_size": 4, "devices": 1, "group_by_length": 16}
    assert content["RankData"] == stream
    assert content["random_states"][0].keys() == {"torch", "python", "numpy"}
    assert [group["name"] for group in content["optimizer_states"][0]["param_groups"]] == ["llm", "projector"]


@pytest.mark.slow
def test_without_the_random_states_dropout_would_differ(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.setattr("perank.training.stage.restore_random_state", lambda *_: None)
    train(toy.composed(world, tmp_path, "rank", f"ckpt_path={tmp_path}/checkpoints/step-000005.ckpt"))
    assert toy.weights(tmp_path) != toy.weights(whole)


def test_a_run_that_died_in_its_evaluation_is_only_evaluated_again(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(RankingEvaluation, "finish", _raise(Interrupted()))
        train(toy.composed(world, tmp_path))
    assert (tmp_path / "checkpoints" / "step-000012.ckpt").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(RankModule, "training_step", _raise(AssertionError("trained again")))
        assert train(toy.composed(world, tmp_path, "rank", f"ckpt_path={tmp_path}")) == {"beir": _ndcg(whole)}
    assert toy.weights(tmp_path) == toy.weights(whole)


@pytest.mark.slow
def test_a_checkpoint_of_the_last_step_written_before_the_epoch_ended_is_a_finished_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 steps with a checkpoint every 5: the tenth is written twice, and the first writing has to do."""
    for name in ("whole", "died"):
        config = toy.composed(world, tmp_path / name, "rank", "data.rows=40", "callbacks.final={}")
        train(config)
    last = tmp_path / "died" / "checkpoints" / "step-000010.ckpt"
    assert last.is_file()
    resumed = toy.composed(world, tmp_path / "died", "rank", "data.rows=40", f"ckpt_path={last}")
    assert train(resumed) == {"beir": _ndcg(tmp_path / "whole")}
    assert toy.weights(tmp_path / "died") == toy.weights(tmp_path / "whole")


def _raise(error: BaseException) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("align", []),
        ("rank", ["trainer.accumulate_grad_batches=2", "callbacks.checkpoint.every_n_train_steps=2"]),
        ("rank", ["data.num_workers=2"]),
        ("rank", ["backbone.lora=null", "loss=paper"]),
        ("rank", ["data.rows=20", "data.epochs=2"]),
    ],
    ids=["align", "accumulated gradients", "workers", "full fine-tuning with texts", "second epoch"],
)
def test_every_kind_of_run_resumes_to_the_same_weights(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, settings: list[str]
) -> None:
    settings = [*settings, "evaluate=false"]
    train(toy.composed(world, tmp_path / "whole", stage, *settings))
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupted_after(5 if "trainer.accumulate_grad_batches=2" in settings else 8, patch)
        train(toy.composed(world, tmp_path / "died", stage, *settings))
    train(toy.composed(world, tmp_path / "died", stage, *settings, f"ckpt_path={tmp_path}/died"))
    assert toy.weights(tmp_path / "died") == toy.weights(tmp_path / "whole")
    assert toy.losses(tmp_path / "died") == toy.losses(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_resumed_into_another_folder_ends_with_the_same_weights(world: Path, whole: Path, tmp_path: Path) -> None:
    train(toy.composed(world, tmp_path, "rank", f"ckpt_path={whole}/checkpoints/step-000005.ckpt"))
    assert toy.weights(tmp_path) == toy.weights(whole)


# What ckpt_path may name


def test_a_folder_whose_checkpoints_are_all_broken_is_refused_and_not_started_over(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000005.ckpt").write_bytes(b"torn")
    with pytest.raises(BadInput, match="none of the checkpoints"):
        resumed_from(str(tmp_path), tmp_path)


def test_a_runs_own_folder_may_be_empty_still_another_may_not(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert resumed_from(None, tmp_path) is None
    assert resumed_from(str(tmp_path), tmp_path) is None
    with pytest.raises(BadInput, match="the folder has no checkpoints"):
        resumed_from(str(tmp_path / "other"), tmp_path)


@pytest.mark.slow
def test_a_checkpoint_that_does_not_say_which_rows_come_next_is_refused(
    world: Path, whole: Path, tmp_path: Path
) -> None:
    content = read_checkpoint(whole / "checkpoints" / "step-000005.ckpt")
    del content["RankData"]
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(BadInput, match="doesn't record which rows"):
        train(toy.composed(world, tmp_path / "out", "rank", f"ckpt_path={tmp_path}/x.ckpt"))


# What doesn't fit is refused before anything is written


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["backbone.lora.r=3"], "lora_A"),
        pytest.param(["backbone.lora.targets=[q_proj]"], "not this model's", marks=pytest.mark.slow),
        pytest.param(["backbone.lora=null"], "not this model's", marks=pytest.mark.slow),
        (["data.batch_size=8"], "batch_size 4, this run has 8"),
        pytest.param(["data.rows=44"], "rows 48, this run has 44", marks=pytest.mark.slow),
        pytest.param(["seed=1"], "seed 0, this run has 1", marks=pytest.mark.slow),
        pytest.param(["data.epochs=2"], "epochs 1, this run has 2", marks=pytest.mark.slow),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_checkpoint_of_other_settings_is_refused(
    world: Path, whole: Path, tmp_path: Path, settings: list[str], said: str
) -> None:
    path = whole / "checkpoints" / "step-000005.ckpt"
    with pytest.raises(BadInput, match=said.replace("'", ".")):
        train(toy.composed(world, tmp_path, "rank", *settings, f"ckpt_path={path}"))
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.slow
def test_a_checkpoint_of_another_encoder_or_stage_is_refused(world: Path, whole: Path, tmp_path: Path) -> None:
    from support import tiny

    tiny.tiny_encoder(tmp_path / "wide", width=12)
    resume = f"ckpt_path={whole}/checkpoints/step-000005.ckpt"
    with pytest.raises(BadInput, match=r"\[16, 8\] in the checkpoint, \[16, 12\] in this model"):
        train(toy.composed(world, tmp_path / "out", "rank", resume, f"encoder.name={tmp_path}/wide"))
    with pytest.raises(BadInput, match="not this model's"):
        train(toy.composed(world, tmp_path / "out", "align", resume))


def test_a_wrong_checkpoint_ends_the_command_with_exit_code_2(
    world: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [*toy.overrides(world), f"ckpt_path={whole}", "backbone.lora.r=3", f"hydra.run.dir={tmp_path}/run"]
    assert toy.command(main, *arguments) == 2
    said = capfd.readouterr().err
    assert "lora_A" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
def test_weights_that_are_not_finite_are_refused(world: Path, whole: Path, tmp_path: Path) -> None:
    content = read_checkpoint(whole / "checkpoints" / "step-000005.ckpt")
    content["state_dict"]["model.projector.0.weight"][0, 0] = torch.nan
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(BadInput, match="aren't finite"):
        train(toy.composed(world, tmp_path / "out", "rank", f"ckpt_path={tmp_path}/nan.ckpt"))


def test_a_run_whose_disk_fills_up_ends_with_bad_input_and_resumes_when_there_is_space(
    world: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = torch.save, []

    def fills_up(checkpoint: Any, file: Any) -> None:
        written.append(file)
        if len(written) == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, file)

    with monkeypatch.context() as patch, pytest.raises(BadInput, match="no space left"):
        patch.setattr(torch, "save", fills_up)
        train(toy.composed(world, tmp_path))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000005.ckpt"]
    train(toy.composed(world, tmp_path, "rank", f"ckpt_path={tmp_path}"))
    assert toy.weights(tmp_path) == toy.weights(whole)
