"""Parameters by part, as a module has them: how many, how many of them train, how many bytes they take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

# nf4 with double quantisation: half a byte, an 8-bit constant for 64 numbers, and an fp32 one for 256 of those.
FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """`bytes` of the parameters in their own types; `trained_bytes` of those that train. `matrices` take products."""

    name: str
    parameters: int
    trained: int
    bytes: float
    trained_bytes: float
    matrices: int = 0
    trained_matrices: int = 0


def parameter_groups(model: nn.Module, *, quantised: bool = False) -> list[ParameterGroup]:
    """A PERank's parts. `quantised`: the layers' own matrices count as 4-bit ones."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(_part(name), []).append((name, parameter))
    return [_summed(part, named, quantised and part == LAYERS) for part, named in groups.items()]


def whole(name: str, module: nn.Module) -> ParameterGroup:
    """A module as one part, nothing of it trained."""
    return _summed(name, [(n, p.requires_grad_(False)) for n, p in module.named_parameters()], False)


def total(parts: Iterable[ParameterGroup], field: str) -> float:
    """The sum of a field over parts."""
    return sum(getattr(part, field) for part in parts)


EMBEDDINGS, LAYERS, NORM, HEAD = "token embeddings", "layers", "final norm", "vocabulary head"
ADAPTERS, PROJECTOR = "adapters", "projector"


def _part(name: str) -> str:
    if name.startswith("projector."):
        return PROJECTOR
    if "lora_" in name:
        return ADAPTERS
    if ".layers." in name:
        return LAYERS
    if "embed_tokens" in name:
        return EMBEDDINGS
    return HEAD if "lm_head" in name else NORM


def _summed(part: str, named: list[tuple[str, Any]], quantised: bool) -> ParameterGroup:
    sized = [(p, p.numel() * (FOUR_BITS if quantised and p.dim() == 2 else p.element_size())) for _, p in named]
    matrices = [p for p, _ in sized if p.dim() == 2] if part != EMBEDDINGS else []
    return ParameterGroup(
        name=part,
        parameters=sum(p.numel() for p, _ in sized),
        trained=sum(p.numel() for p, _ in sized if p.requires_grad),
        bytes=sum(size for _, size in sized),
        trained_bytes=sum(size for p, size in sized if p.requires_grad),
        matrices=sum(p.numel() for p in matrices),
        trained_matrices=sum(p.numel() for p in matrices if p.requires_grad),
    )
