"""Saved LoRA adapters folded into the LLM's weights: W + alpha / r * B A. Using a model needs no peft."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.llm import Lora

_KEY = re.compile(r"llm\.(.+)\.lora_([AB])\.default\.weight")  # peft's names inside a PERank


def adapter_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapters' part of a PERank's state dict."""
    return {key: value for key, value in state.items() if _KEY.fullmatch(key)}


@torch.no_grad()
def merge_saved(llm: Any, adapters: Mapping[str, Tensor], lora: Lora, *, path: Path) -> None:
    """Add every adapter to its layer, in place; sums in fp32 or wider, then the layer's own type.

    Raises `BadInput` unless there is one pair of matrices for every layer that `lora.targets` names, and no other.
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
        if type(layer).__name__ == "Conv1D":  # GPT-2 keeps its weights transposed
            delta_OI = delta_OI.T
        if delta_OI.shape != layer.weight.shape or len(a_RI) != lora.r:
            problem = f"an adapter of {list(delta_OI.shape)} and rank {len(a_RI)} for {list(layer.weight.shape)}"
            raise BadInput(problem, remedy="use the LLM it was trained with", path=path, id=name)
        layer.weight.copy_(layer.weight.to(wide) + delta_OI)
