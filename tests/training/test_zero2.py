"""The first steps of `trainer=deepspeed_zero2`, with the engine simulated on the CPU, without the package deepspeed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.plugins.precision import DeepSpeedPrecision

from perank.app.assembly import Assembly, TextAssembly
from perank.app.settings import instantiate
from perank.files import CONF_DIR
from perank.train import train
from support import toy
from support.zero2 import Engine, SimulatedZero2

pytestmark = [*toy.QUIET, pytest.mark.filterwarnings("ignore:.*eval mode at the start of training.*")]
STAGES = ["align", "rank", "listwise"]


def precision_of(config: Any) -> Any:
    """The precision plugin that Lightning takes with a DeepSpeedStrategy."""
    named = [instantiate(plugin) for plugin in config.trainer.plugins or []]
    chosen = [plugin for plugin in named if isinstance(plugin, DeepSpeedPrecision)]
    return chosen[0] if chosen else DeepSpeedPrecision(config.trainer.precision)


def composed(world: Path, output: Path, stage: str, *more: str) -> Any:
    zero2 = ["trainer=deepspeed_zero2", "evaluate=false", *more]
    if stage != "listwise":
        return toy.composed(world, output, stage, *zero2)
    removed = ("suite", "data.pool", "backbone.lora", "loss", "projector")
    rows = ["data.candidates=4", "prompt.max_length=200"]
    overrides = [o for o in toy.overrides(world, "rankmistral", *rows) if not o.startswith(removed)]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", overrides=[*overrides, *zero2])
    config.paths.output = str(output)
    return config


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_first_batch_goes_through_deepspeeds_conversion_with_its_vectors_in_fp32(
    world: Path, tmp_path: Path, stage: str
) -> None:
    config = composed(world, tmp_path, stage)
    assembly = (TextAssembly if stage == "listwise" else Assembly)(config)
    batch = assembly.data.collate([assembly.data.example(position) for position in range(4)])
    converted = precision_of(config).convert_input(batch)
    assert type(converted) is type(batch)
    if stage != "listwise":
        assert torch.equal(converted.vectors_BNE, batch.vectors_BNE)
        assert converted.vectors_BNE.dtype == torch.float32


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_steps_of_a_stage_train_through_lightnings_loop(world: Path, tmp_path: Path, stage: str) -> None:
    config = composed(world, tmp_path, stage)
    assembly = (TextAssembly if stage == "listwise" else Assembly)(config)
    module = assembly.stage
    before = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    trainer = lightning.Trainer(
        accelerator="cpu",
        strategy=SimulatedZero2(),
        plugins=[precision_of(config)],
        accumulate_grad_batches=2,
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=assembly.data)
    assert trainer.global_step == 2
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert any(not torch.equal(p, before[name].bfloat16()) for name, p in module.named_parameters() if name in before)
    assert float(trainer.callback_metrics["train/loss"]) > 0


def test_gradients_of_accumulated_micro_batches_are_their_mean() -> None:
    """As Lightning calls it: the loss of a micro-batch arrives divided by their number."""
    weight, losses = torch.nn.Linear(1, 1, bias=False), [3.0, 5.0]
    engine = Engine(weight, torch.optim.SGD(weight.parameters(), lr=0.0), accumulate=len(losses))
    model: Any = lightning.LightningModule()
    model._trainer = SimpleNamespace(model=engine)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        precision = precision_of(compose("train", overrides=["+experiment=rank", "trainer=deepspeed_zero2"]))
    for loss in losses:
        precision.backward(loss * weight.weight.sum() / len(losses), model, None)
    assert weight.weight.grad is not None
    assert weight.weight.grad.item() == pytest.approx(sum(losses) / len(losses))


@pytest.mark.parametrize("stage", ["align", "rank"])
def test_two_micro_batches_train_as_one_of_twice_the_size(world: Path, tmp_path: Path, stage: str) -> None:
    from safetensors.torch import load_file

    lora = ["backbone.lora.dropout=0", "data.group_by_length=1"] if stage == "rank" else []
    whole = ["evaluate=false", "data.rows=16", "data.batch_size=8", *lora]
    halves = ["evaluate=false", "data.rows=16", "data.batch_size=4", "trainer.accumulate_grad_batches=2", *lora]
    states = []
    for name, settings in {"whole": whole, "halves": halves}.items():
        train(toy.composed(world, tmp_path / name, stage, *settings))
        states.append(load_file(tmp_path / name / "projector.safetensors"))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)
