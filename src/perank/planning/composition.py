"""What a run is made of, as far as its memory and work depend on it: parameters by part, GPUs, the shape of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from perank.errors import BadInput

EMBEDDINGS, LAYERS, NORM, HEAD = "token embeddings", "layers", "final norm", "vocabulary head"
ADAPTERS, PROJECTOR = "adapters", "projector"
# nf4 with double quantisation: half a byte, an 8-bit constant for 64 numbers, and an fp32 one for 256 of those.
FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
_SHARDED = {"perank.training.fsdp.ShardedStrategy": "fsdp", "lightning.pytorch.strategies.DeepSpeedStrategy": "zero2"}


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


def frozen_group(name: str, module: nn.Module) -> ParameterGroup:
    """A module as one part, nothing of it trained."""
    return _summed(name, [(n, p.requires_grad_(False)) for n, p in module.named_parameters()], False)


def total(parts: Iterable[ParameterGroup], field: str) -> float:
    """The sum of a field over parts."""
    return sum(getattr(part, field) for part in parts)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """`kind`: one, ddp, fsdp or zero2. `wide`: the residual stream stays fp32 (autocast over fp32 weights).

    `element` is the bytes of a number in a layer's products; `bucket` numbers are reduced or gathered at once.
    """

    kind: str
    gpus: int
    nodes: int
    element: int
    wide: bool
    accumulate: int
    bucket: int = 0

    @property
    def shares(self) -> int:
        """Into how many shares gradients and optimizer states are cut."""
        return self.gpus if self.kind in ("fsdp", "zero2") else 1


def parallelism_of(trainer: Mapping[str, Any], *, dtype: str) -> Parallelism:
    """The setup of a trainer config for an LLM in `dtype`. Raises `BadInput` for strategies it knows nothing of."""
    devices, nodes = trainer["devices"], trainer.get("num_nodes", 1)
    if not isinstance(devices, int) or devices < 1:
        raise BadInput(f"devices is {devices!r}", remedy="say how many there will be", id="trainer.devices")
    kind, strategy = _kind(trainer.get("strategy"), devices * nodes), trainer.get("strategy")
    autocast = str(trainer.get("precision")).startswith(("bf16", "16")) and kind != "zero2"
    gathered = kind == "fsdp" and strategy["dtype"] in ("bfloat16", "float16")  # type: ignore[index]
    narrow = autocast or gathered or kind == "zero2" or dtype in ("bfloat16", "float16")
    return Parallelism(
        kind=kind,
        gpus=devices * nodes,
        nodes=nodes,
        element=2 if narrow else 4,
        wide=narrow and autocast and dtype == "float32",
        accumulate=trainer.get("accumulate_grad_batches", 1),
        bucket=strategy.get("reduce_bucket_size", 200_000_000) if kind == "zero2" else 0,  # type: ignore[union-attr]
    )


def _kind(strategy: Any, gpus: int) -> str:
    target = strategy.get("_target_") if isinstance(strategy, Mapping) else None
    if target in _SHARDED and (_SHARDED[target] == "fsdp" or strategy.get("stage", 2) == 2):
        return _SHARDED[target]
    if strategy in (None, "auto") or str(strategy).startswith("ddp"):
        return "ddp" if gpus > 1 else "one"
    remedy = "use trainer=gpu, ddp, fsdp or deepspeed_zero2"
    raise BadInput(f"no arithmetic for the strategy {strategy!r}", remedy=remedy, id="trainer.strategy")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """Of the LLM: D width, I its layers' inner width, H heads, Q the queries' width, K the keys' and values' together.

    Of a micro-batch:

    `rows` a GPU, and `lengths` of the sequences that run before one backward pass (with texts, without).
    `adapted` are the input widths of a layer's adapted matrices; `logits` is V where the vocabulary head runs.
    """

    layers: int
    width: int
    inner: int
    heads: int
    queries: int
    keys_values: int
    rows: int
    lengths: Sequence[int]
    checkpointing: bool
    adapted: Sequence[int] = ()
    logits: int = 0

    @property
    def tokens(self) -> int:
        """In a micro-batch, of all sequences."""
        return self.rows * sum(self.lengths)
