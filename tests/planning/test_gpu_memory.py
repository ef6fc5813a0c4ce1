"""The memory arithmetic against what torch really holds, and against a count by hand for Mistral-7B under ZeRO-2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from perank.model.llm import LLMSettings
from perank.model.lora import Lora
from perank.planning.composition import Parallelism, ParameterGroup, StepShape, parameter_groups
from perank.planning.gpu_memory import (
    GIB,
    RESERVED,
    activations,
    gradients,
    layer_bytes,
    memory,
    needed,
    optimizer,
    weights,
)
from support import tiny

ONE = Parallelism(kind="one", gpus=1, nodes=1, element=4, wide=False, accumulate=1)
BF16 = Parallelism(kind="one", gpus=1, nodes=1, element=2, wide=False, accumulate=1)
AUTOCAST = Parallelism(kind="one", gpus=1, nodes=1, element=2, wide=True, accumulate=1)
WIDTH, HEADS, KV, LENGTH, ROWS = 64, 4, 2, 37, 3


def shape(layers: int, *, checkpointing: bool = False, adapted: Sequence[int] = ()) -> StepShape:
    return StepShape(
        layers=layers,
        width=WIDTH,
        inner=2 * WIDTH,
        heads=HEADS,
        queries=WIDTH,
        keys_values=2 * KV * WIDTH // HEADS,
        rows=ROWS,
        lengths=[LENGTH],
        checkpointing=checkpointing,
        adapted=adapted,
    )


def kept(layers: int, setup: Parallelism, *, checkpointing: bool = False, lora: Lora | None = None) -> int:
    """Bytes that a forward pass leaves for the backward pass, each storage once, weights and their copies left out."""
    llm = tiny.tiny_llm(layers=layers, width=WIDTH, heads=HEADS, kv_heads=KV)
    llm = llm.to(torch.float32 if setup.wide or setup.element == 4 else torch.bfloat16).train()
    llm = LLMSettings(lora=lora, gradient_checkpointing=checkpointing).prepare(llm)
    return held(llm, setup)


def held(llm: Any, setup: Parallelism) -> int:
    """Bytes that the layers of this LLM leave for the backward pass."""
    shapes = {tuple(p.shape) for p in llm.parameters()} | {tuple(p.T.shape) for p in llm.parameters() if p.dim() == 2}
    found: dict[int, torch.Tensor] = {}

    def pack(value: torch.Tensor) -> torch.Tensor:
        if tuple(value.shape) not in shapes:
            found[value.untyped_storage()._cdata] = value
        return value

    inputs = torch.randn(ROWS, LENGTH, WIDTH, dtype=llm.dtype, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value),
        torch.autocast("cpu", torch.bfloat16, enabled=setup.wide),
    ):
        hidden = llm.get_decoder()(inputs_embeds=inputs, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    return sum(value.untyped_storage().nbytes() for value in found.values())


@pytest.mark.parametrize("setup", [ONE, BF16, AUTOCAST], ids=["fp32", "bf16", "autocast"])
def test_a_layers_activations_are_what_a_real_layer_keeps_to_the_byte(setup: Parallelism) -> None:
    measured = kept(4, setup) - kept(3, setup)
    assert measured == ROWS * LENGTH * layer_bytes(shape(1), setup)


def test_with_checkpointing_a_layer_keeps_its_input_alone() -> None:
    measured = kept(4, ONE, checkpointing=True) - kept(3, ONE, checkpointing=True)
    assert measured == ROWS * LENGTH * 4 * WIDTH
    again = activations(shape(4, checkpointing=True), ONE).bytes - activations(shape(3, checkpointing=True), ONE).bytes
    assert again == measured


def test_a_layer_of_a_frozen_llm_keeps_the_planned_share() -> None:
    """Of Mistral's proportions: an inner width of 3.5 times the width, a quarter of the heads for keys and values."""
    sizes = {"hidden_size": 64, "intermediate_size": 224, "num_attention_heads": 8, "num_key_value_heads": 2}
    found = []
    for layers in (4, 3):
        llm = tiny.llm_of("mistral", 40, num_hidden_layers=layers, sliding_window=None, **sizes)
        found.append(held(llm.bfloat16().requires_grad_(False), BF16))
    frozen = StepShape(
        layers=1, width=64, inner=224, heads=8, queries=64, keys_values=32, rows=ROWS, lengths=[LENGTH],
        checkpointing=False, frozen=True,
    )  # fmt: skip
    planned = ROWS * LENGTH * layer_bytes(frozen, BF16)
    assert 0.95 * planned < found[0] - found[1] <= planned


def test_memory_goes_by_the_longest_row_and_by_one_block_of_logits() -> None:
    typical = shape(4, checkpointing=True)
    longest = activations(replace(typical, longest=[2 * LENGTH]), BF16).bytes
    assert longest == pytest.approx(2 * activations(typical, BF16).bytes)
    for tokens, scored in ((100, 100), (5000, 1024)):
        scoring = replace(typical, rows=1, lengths=[tokens], logits=1000)
        logits = activations(scoring, BF16).bytes - activations(replace(scoring, logits=0), BF16).bytes
        assert logits == scored * 1000 * 18


def test_adapters_keep_no_more_than_is_planned_for() -> None:
    lora = Lora(r=4, dropout=0.05, targets=("q_proj", "v_proj"))
    measured = kept(4, BF16, lora=lora) - kept(3, BF16, lora=lora)
    planned = ROWS * LENGTH * layer_bytes(shape(1, adapted=[WIDTH, WIDTH]), BF16)
    assert 0.7 * planned < measured <= planned


@pytest.mark.parametrize("lora", [None, Lora(r=2)], ids=["every weight", "adapters"])
def test_weights_gradients_and_optimizer_states_are_those_of_a_real_step(lora: Lora | None) -> None:
    model: Any = tiny.tiny_model(dtype=torch.float32).requires_grad_(True)
    model.llm = LLMSettings(lora=lora).prepare(model.llm)
    trained = [p for p in model.parameters() if p.requires_grad]
    steps = torch.optim.AdamW(trained)
    sum(p.sum() for p in trained).backward()
    steps.step()
    states = [value for state in steps.state.values() for value in state.values() if value.dim()]
    parts = parameter_groups(model)
    assert weights(parts, shape(2), ONE)[0].bytes == sum(p.nbytes for p in model.parameters())
    assert gradients(parts, shape(2), ONE)[0].bytes == sum(p.grad.nbytes for p in trained)
    assert optimizer(parts, ONE)[0].bytes == sum(value.nbytes for value in states)


def test_mistral_under_zero_2_on_four_gpus_as_counted_by_hand() -> None:
    layers = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096)  # q, o; k, v; the MLP; two norms
    tokens, projector = 32000 * 4096, 768 * 4096 + 4096 + 4096**2 + 4096
    trained = layers + tokens + 4096 + projector
    parts = [
        ParameterGroup(name=name, parameters=n, trained=t, bytes=4.0 * n, trained_bytes=4.0 * t)
        for name, n, t in [
            ("layers", layers, layers),
            ("token embeddings", tokens, tokens),
            ("final norm", 4096, 4096),
            ("vocabulary head", tokens, 0),
            ("projector", projector, projector),
        ]
    ]
    assert layers + 2 * tokens + 4096 == 7_241_732_096  # as its model card counts
    setup = Parallelism(kind="zero2", gpus=4, nodes=1, element=2, wide=False, accumulate=2, bucket=200_000_000)
    mistral = StepShape(
        layers=32,
        width=4096,
        inner=14336,
        heads=32,
        queries=4096,
        keys_values=2048,
        rows=4,
        lengths=[300, 2200],
        checkpointing=True,
    )
    found = {item.name: item.bytes for item in memory(parts, mistral, setup)}
    assert found["weights"] == 2 * (trained + tokens)
    assert found["gradients, shard"] == trained / 2
    assert found["optimizer, shard"] == 3 * trained
    assert found["AdamW's step"] == 2 * trained
    assert found["buckets"] == 1.2e9
    assert found["activations"] == 4 * 2500 * 32 * 8192 + 4 * 2200 * (
        16 * 4096 + 4 * 4096 + 2 * 2048 + 8 * 14336 + 4 * 32 + 8
    )
    by_hand = 1.05 * (2 * (trained + tokens) + 5.5 * trained + 1.2e9) + RESERVED
    assert needed(memory(parts, mistral, setup)) == pytest.approx(by_hand)
    assert by_hand / GIB == pytest.approx(54.7, abs=0.1)


def test_shares_and_what_is_gathered_under_fsdp() -> None:
    parts = [ParameterGroup(name="layers", parameters=800, trained=800, bytes=3200, trained_bytes=3200)]
    setup = Parallelism(kind="fsdp", gpus=4, nodes=1, element=2, wide=False, accumulate=1)
    found = {item.name: item.bytes for item in memory(parts, shape(8), setup)}
    assert found["weights, shard"] == found["gradients, shard"] == 800
    assert found["weights, gathered"] == 2 * 2 * 100
    assert found["optimizer"] == 1600
    assert found["gradients, one layer"] == 600
