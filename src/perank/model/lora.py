"""LoRA adapters in the LLM (peft, injected in place) and the state dict of the trained parameters only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perank.errors import BadInput
from perank.model.sharding import shard_state_like

_KEY = re.compile(r"llm\.(.+)\.lora_([AB])\.default\.weight")  # peft's names inside a PERank


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA adapters (peft) on the named linear layers; the authors' optional setting is r 8, alpha 16, q and v.

    Raises `BadInput` for values out of range.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")

    def __post_init__(self) -> None:
        good = {"r": self.r >= 1, "alpha": self.alpha >= 1, "dropout": 0 <= self.dropout < 1, "targets": self.targets}
        for name in [name for name, is_good in good.items() if not is_good]:
            remedy = "use r and alpha of 1 or more, a dropout from 0 to below 1, and one target or more"
            raise BadInput(f"{name} is {getattr(self, name)!r}", remedy=remedy, id=f"backbone.lora.{name}")


def add_adapters(llm: nn.Module, lora: Lora) -> None:
    """Freeze the LLM and add trainable adapters to its target layers. Raises `BadInput` if no layer matches."""
    from peft import LoraConfig, inject_adapter_in_model

    llm.requires_grad_(False)
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets), bias="none"
    )
    try:
        inject_adapter_in_model(config, llm)
    except ValueError as error:
        raise BadInput(
            f"no layer of {type(llm).__name__} is called {', '.join(lora.targets)}",
            remedy="name its linear layers in backbone.lora.targets",
        ) from error
    for parameter in llm.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # small optimizer steps would be lost in bf16


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that require gradients, and the score scale, by name: the content of a checkpoint."""
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    trained |= {name for name, _ in module.named_buffers() if name.endswith("score_scale")}
    return {name: value for name, value in module.state_dict().items() if name in trained}


def load_trained_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the result of `trained_state`. Raises `BadInput` if keys or shapes differ or a value isn't finite."""
    expected = trained_state(module)
    for name in sorted(expected.keys() & state.keys()):
        if state[name].shape != expected[name].shape:
            problem = f"{list(state[name].shape)} in the checkpoint, {list(expected[name].shape)} in this model"
            remedy = "use the encoder, backbone and LoRA settings the checkpoint was trained with"
            raise BadInput(problem, remedy=remedy, id=name)
        if not state[name].isfinite().all():
            raise BadInput("weights that aren't finite", remedy="use an earlier checkpoint", id=name)
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise BadInput(
            f"the checkpoint's weights are not this model's (missing: {missing[:3]}, unknown: {unknown[:3]})",
            remedy="use the backbone and LoRA settings the checkpoint was trained with",
        )
    module.load_state_dict(shard_state_like(state, module.state_dict()), strict=False)


def adapter_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapters' tensors in a PERank's state dict."""
    return {key: value for key, value in state.items() if _KEY.fullmatch(key)}


def layer_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The LLM's own weights in a PERank's state dict, without embeddings and vocabulary head."""
    names = {key: value for key, value in state.items() if key.startswith("llm.") and not _KEY.fullmatch(key)}
    return {key: value for key, value in names.items() if not re.search(r"(embed_\w+|wte|wpe|lm_head)\.weight$", key)}


def load_layers(llm: nn.Module, layers: Mapping[str, Tensor], *, path: Path) -> None:
    """Replace the LLM's own weights by saved ones. Raises `BadInput` unless they are of this LLM."""
    if not layers:
        return
    own = layer_state({f"llm.{key}": value for key, value in llm.state_dict().items()})
    expected, found = ({key: value.shape for key, value in state.items()} for state in (own, layers))
    if found != expected:
        wrong = sorted(own.keys() ^ layers.keys()) or sorted(layers)
        problem = f"weights missing, unknown or of the wrong shape: {', '.join(wrong[:3])}"
        raise BadInput(problem, remedy="use the LLM and num_layers it was trained with", path=path)
    llm.load_state_dict({key.removeprefix("llm."): value for key, value in layers.items()}, strict=False)


@torch.no_grad()
def merge_saved(llm: Any, adapters: Mapping[str, Tensor], lora: Lora, *, path: Path) -> None:
    """Merge every adapter into its layer, in place; sums in fp32 or wider, then cast to the layer's type.

    Raises `BadInput` unless exactly the layers named by `lora.targets` have one pair of matrices each.
    """
    layers = {
        name: module
        for name, module in llm.named_modules()
        if any(name == target or name.endswith(f".{target}") for target in lora.targets)
    }
    expected = {f"llm.{name}.lora_{half}.default.weight" for name in layers for half in "AB"}
    if expected != adapters.keys() or not expected:
        missing, unknown = sorted(expected - adapters.keys()), sorted(adapters.keys() - expected)
        raise BadInput(
            f"the adapters don't fit the LLM (missing: {missing[:2]}, unknown: {unknown[:2]})",
            remedy="use the LLM and num_layers it was trained with",
            path=path,
        )
    for name, layer in layers.items():
        a_RI, b_OR = (adapters[f"llm.{name}.lora_{half}.default.weight"] for half in "AB")
        wide = torch.promote_types(layer.weight.dtype, torch.float32)
        delta_OI = (b_OR.to(wide) @ a_RI.to(wide)) * (lora.alpha / lora.r)
        if type(layer).__name__ == "Conv1D":  # GPT-2 stores its weights transposed
            delta_OI = delta_OI.T
        if delta_OI.shape != layer.weight.shape or len(a_RI) != lora.r:
            problem = f"an adapter of {list(delta_OI.shape)} and rank {len(a_RI)} for {list(layer.weight.shape)}"
            raise BadInput(problem, remedy="use the LLM it was trained with", path=path, id=name)
        layer.weight.copy_(layer.weight.to(wide) + delta_OI)
