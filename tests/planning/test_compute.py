"""FLOPs against torch's own counter, steps and hours against a count by hand."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from perank.model.llm import LLMSettings
from perank.planning.composition import Parallelism, StepShape, parameter_groups
from perank.planning.compute import WAITING, Work, micro_batch_flops, work
from support import tiny


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
def test_flops_are_those_that_torch_counts_with_half_of_the_attention_which_is_causal(checkpointing: bool) -> None:
    model = tiny.tiny_model(dtype=torch.float32, attn_implementation="eager").requires_grad_(True)
    rows, length, layers, width = 2, 24, 2, 32
    if checkpointing:
        model.llm = LLMSettings(gradient_checkpointing=True).prepare(model.llm)
    model.train()
    inputs = torch.randn(rows, length, width, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model.decoder(inputs_embeds=inputs, use_cache=False).last_hidden_state.sum().backward()
    shape = StepShape(
        layers=layers, width=width, inner=64, heads=4, queries=32, keys_values=32, rows=rows, lengths=[length],
        checkpointing=checkpointing,
    )  # fmt: skip
    passes = 4 if checkpointing else 3
    half = passes * 2 * length**2 * width * layers * rows
    assert micro_batch_flops(parameter_groups(model), shape) == counter.get_total_flops() - half


def test_a_frozen_llm_has_no_gradients_of_weights() -> None:
    model = tiny.tiny_model(dtype=torch.float32)
    shape = StepShape(
        layers=2, width=32, inner=64, heads=4, queries=32, keys_values=32, rows=1, lengths=[10], checkpointing=False
    )
    frozen = micro_batch_flops(parameter_groups(model), shape)
    trained = micro_batch_flops(parameter_groups(model.requires_grad_(True)), shape)
    layers = sum(p.numel() for n, p in model.named_parameters() if ".layers." in n and p.dim() == 2)
    assert trained - frozen == 2 * 10 * layers


def test_steps_and_hours_by_hand() -> None:
    setup = Parallelism(kind="ddp", gpus=4, nodes=1, element=2, wide=False, accumulate=2)
    shape = StepShape(
        layers=1, width=8, inner=8, heads=1, queries=8, keys_values=8, rows=4, lengths=[10, 20], checkpointing=False
    )
    found = work([], shape, setup, rows=232_419, epochs=1)
    assert (found.rows, found.tokens, found.steps) == (32, 4 * 30 * 4 * 2, 7263)  # 14,526 micro-batches
    assert work([], shape, setup, rows=None, epochs=1).steps is None
    hours = Work(rows=1, tokens=1, flops=1e15, steps=3600).hours(setup, tflops=100.0, utilisation=0.5)
    waiting = 3600 * 2 * WAITING / 3600  # two micro-batches per step
    assert hours == pytest.approx(5.0 + waiting)  # 3600 x 1e15 / (4 x 1e14 x 0.5) = 18,000 seconds


def test_a_small_model_is_as_slow_as_the_run_that_the_waiting_was_taken_from() -> None:
    """6.7 steps a second of 4.98e12 FLOPs on a GPU of 989 TFLOP/s: 3.4% of its peak."""
    setup = Parallelism(kind="one", gpus=1, nodes=1, element=2, wide=True, accumulate=1)
    seconds = Work(rows=512, tokens=1, flops=4.98e12, steps=1).seconds(setup, tflops=989.0, utilisation=0.35)
    assert 1 / seconds == pytest.approx(6.7, abs=0.05)
    assert 4.98e12 / seconds / 989e12 == pytest.approx(0.034, abs=0.001)
