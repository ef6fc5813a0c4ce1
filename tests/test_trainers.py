"""Trainers on two processes (gloo) through the command line: the losses of one, and checkpoints that cross over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perank.app.assembly import Assembly
from perank.app.commands.renamed import run_config
from support import toy
from test_distributed import ONE, TWO, compare, run

pytestmark = [pytest.mark.slow, *toy.QUIET]
SHARDED = ["trainer.devices=2", "+trainer.strategy={_target_: perank.training.fsdp.ShardedStrategy}"]
TRAINERS = {"ddp": TWO, "fsdp": [*SHARDED, "data.batch_size=4"]}
LORA = ["backbone.lora.dropout=0"]
WHOLE = ["backbone.lora=null", "loss=paper", "data.rows=40", "+backbone.gradient_checkpointing=true"]


@pytest.mark.parametrize(
    ("stage", "settings"),
    [("align", []), ("rank", LORA), ("rank", [*WHOLE, "evaluate_every=2"])],
    ids=["align", "rank", "full fine-tuning with texts"],
)
def test_two_processes_in_shards_train_as_one_with_twice_the_batch(
    world: Path, tmp_path: Path, stage: str, settings: list[str]
) -> None:
    run(world, tmp_path / "one", stage, *ONE, *settings)
    run(world, tmp_path / "two", stage, *TRAINERS["fsdp"], *settings)
    compare(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("settings", [LORA, WHOLE], ids=["adapters", "every weight"])
@pytest.mark.parametrize(("first", "then"), [("ddp", "fsdp"), ("fsdp", "ddp")])
def test_a_checkpoint_saved_under_one_trainer_goes_on_under_another(
    world: Path, tmp_path: Path, first: str, then: str, settings: list[str]
) -> None:
    run(world, tmp_path / "whole", "rank", *TRAINERS[first], *settings, "evaluate=false", "data.rows=64")
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-000005.ckpt"
    resume = ["evaluate=false", "data.rows=64", f"ckpt_path={checkpoint}"]
    run(world, tmp_path / "resumed", "rank", *TRAINERS[then], *settings, *resume)
    losses = toy.losses(tmp_path / "whole"), toy.losses(tmp_path / "resumed")
    assert losses[1].keys() == {5, 6, 7}
    for step, loss in losses[1].items():
        assert losses[0][step] == pytest.approx(loss, abs=1e-5), step
    states = [load_file(tmp_path / name / "projector.safetensors") for name in ("whole", "resumed")]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)


def test_a_checkpoint_of_shards_is_one_file_that_a_single_process_reads(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "run", "rank", *TRAINERS["fsdp"], *LORA, "evaluate=false")
    content = torch.load(tmp_path / "run" / "checkpoints" / "step-000006.ckpt", weights_only=True)
    assert all(type(value) is torch.Tensor for value in content["state_dict"].values())
    assert all("lora_" in key or key.startswith(("model.projector.", "model.score_scale"))
               for key in content["state_dict"])  # fmt: skip
    config = run_config(tmp_path / "run")
    config.start = str(tmp_path / "run" / "checkpoints" / "step-000006.ckpt")
    model = Assembly(config).model
    saved = load_file(tmp_path / "run" / "projector.safetensors")
    for name, value in model.projector.state_dict().items():
        assert torch.equal(saved[name], value)
