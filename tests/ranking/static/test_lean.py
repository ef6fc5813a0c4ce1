"""Fused layers compute what the model's own layers compute, to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.encoders.packed_linear import PackedLinear, pack_linears
from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.static.decoder import Static
from perank.ranking.static.layers import HuggingFaceLayers, Layers
from perank.ranking.static.lean import LeanLayers, lean_weights
from perank.ranking.static.state import Bucket
from support import tiny

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": None, "head_dim": 16},
    "qwen2": {"num_key_value_heads": 4},
    "qwen3": {"head_dim": 8},
}
BUCKET = Bucket(rows=3, prompt=11, passages=9, nodes=5, deepest=8, levels=4, query=False)


def model_of(name: str, dtype: torch.dtype = torch.float64) -> PERank:
    model = tiny.model_of(name.split(maxsplit=1)[0], **FAMILIES[name])
    noise = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # norms of ones and biases of zeros would hide a mistake
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3, generator=noise)
    return model.to(dtype).requires_grad_(False)


def states(layers: Layers, dtype: torch.dtype) -> list[Tensor]:
    """What a prompt in two pieces and a draft with holes in its mask give, and the cache afterwards."""
    noise = torch.Generator().manual_seed(0)
    wide = layers.kv.dtype
    prompt_BLD, fed_BKD = (torch.randn(3, n, 32, generator=noise).to(dtype).to(wide) for n in (11, 5))
    seen_BKM = torch.rand(3, 5, layers.kv.shape[2], generator=noise) < 0.6
    seen_BKM[..., 0] = True
    with torch.no_grad():
        read = [layers.read(prompt_BLD[rows], rows) for rows in (slice(0, 2), slice(2, 3))]
        return [*read, layers.append(fed_BKD, torch.tensor([[11, 12, 13, 12, 13]] * 3), seen_BKM), layers.kv]


@pytest.mark.parametrize("name", FAMILIES)
def test_fused_layers_are_the_models_own_in_fp64(name: str) -> None:
    model = model_of(name)
    own, lean = (states(made, torch.float64) for made in (HuggingFaceLayers(model, BUCKET), lean_layers(model)))
    for one, other in zip(own, lean, strict=True):
        assert distance(one, other) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_fused_layers_are_as_exact_as_the_models_own(name: str, dtype: torch.dtype) -> None:
    model = model_of(name, dtype)
    own, lean = (states(made, dtype) for made in (HuggingFaceLayers(model, BUCKET), lean_layers(model)))
    exact = states(HuggingFaceLayers(model.double(), BUCKET), dtype)
    for truth, one, other in zip(exact, own, lean, strict=True):
        assert distance(truth, other) < 1.5 * distance(truth, one)


def lean_layers(model: PERank) -> LeanLayers:
    weights = lean_weights(model)
    assert weights is not None
    return LeanLayers(model, weights, BUCKET)


def distance(truth: Tensor, other: Tensor) -> float:
    return float((truth.double() - other.double()).norm() / truth.double().norm())


def test_packed_layers_are_packed_again() -> None:
    model = model_of("llama", torch.float32)
    weights = lean_weights(pack_in(model))
    assert weights is not None
    assert {type(weights[0].qkv), type(weights[0].gate_up)} <= {PackedLinear, type(weights[0].out)}
    windows = tiny.windows([9, 14], dtype=torch.float32)
    assert Static(lean=True).decode(model, windows).orders == Constrained().decode(model, windows).orders


def pack_in(model: PERank) -> PERank:
    pack_linears(model.decoder)
    return model


def test_other_layers_stay_as_they_are() -> None:
    trained, hooked, mixed = (model_of("llama") for _ in range(3))
    next(trained.decoder.parameters()).requires_grad_(True)
    hooked.decoder.layers[0].register_forward_hook(lambda *_: None)
    mixed.decoder.layers[0].mlp.float()
    adapted = model_of("llama")
    adapted.decoder.layers[1].mlp.up_proj = _Adapter(32, 64)
    for model in (trained, hooked, mixed, adapted, tiny.model_of("gpt_neox", num_key_value_heads=4)):
        model.projector.requires_grad_(False)
        assert lean_weights(model) is None
        with pytest.raises(BadInput, match="can't be fused"):
            Static(lean=True).decode(model, tiny.windows([5]))


class _Adapter(torch.nn.Linear):
    """Does more than multiply."""


def test_weights_that_change_are_noticed() -> None:
    model, decoder, windows = model_of("llama"), Static(lean=True), tiny.windows([15, 20])
    before = decoder.decode(model, windows).orders
    model.decoder.layers[0].self_attn.q_proj.weight.mul_(-3)
    after = decoder.decode(model, windows).orders
    assert before != after == Constrained().decode(model, windows).orders
