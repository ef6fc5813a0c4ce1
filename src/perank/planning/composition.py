"""What memory and compute of a run depend on: parameters by part, GPUs, and the shape of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from perank.errors import BadInput

EMBEDDINGS, LAYERS, NORM, HEAD = "token embeddings", "layers", "final norm", "vocabulary head"
ADAPTERS, PROJECTOR = "adapters", "projector"
# nf4 with double quantisation: half a byte, an 8-bit constant per 64 numbers, and an fp32 one per 256 of those.
FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
_SHARDED = {"perank.training.fsdp.ShardedStrategy": "fsdp", "lightning.pytorch.strategies.DeepSpeedStrategy": "zero2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """`bytes` of the parameters in their own types, `trained_bytes` of trained ones. `matrices`: used in matmuls."""

    name: str
    parameters: int
    trained: int
    bytes: float
    trained_bytes: float
    matrices: int = 0
    trained_matrices: int = 0


def parameter_groups(model: nn.Module, *, quantised: bool = False) -> list[ParameterGroup]:
    """Group a PERank's parameters by part. `quantised`: the layers' own matrices count as 4-bit."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(_part(name), []).append((name, parameter))
    return [_summed(part, named, quantised and part == LAYERS) for part, named in groups.items()]


def frozen_group(name: str, module: nn.Module) -> ParameterGroup:
    """Freeze a module and return it as one part."""
    return _summed(name, [(n, p.requires_grad_(False)) for n, p in module.named_parameters()], False)


def total(parts: Iterable[ParameterGroup], field: str) -> float:
    """Sum a field over parts."""
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

    `element`: bytes per number in a layer's matmuls; `bucket`: numbers reduced or gathered at once.
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
        """Number of shards of gradients and optimizer states."""
        return self.gpus if self.kind in ("fsdp", "zero2") else 1


def parallelism_of(trainer: Mapping[str, Any], *, dtype: str) -> Parallelism:
    """Read the setup from a trainer config, for an LLM in `dtype`. Raises `BadInput` for unknown strategies."""
    devices, nodes = trainer["devices"], trainer.get("num_nodes", 1)
    if not isinstance(devices, int) or devices < 1:
        raise BadInput(f"devices is {devices!r}", remedy="set the number of GPUs", id="trainer.devices")
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
    raise BadInput(f"can't plan for the strategy {strategy!r}", remedy=remedy, id="trainer.strategy")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """The LLM's sizes and a micro-batch's shape.

    LLM: D width, I inner width, H heads, Q width of the queries, K width of keys and values together. Micro-batch:
    `rows` per GPU, and `lengths` of a typical row's sequences before one backward pass (with texts, without); `longest`
    are those of the longest row, to which a micro-batch may be padded (default: `lengths`). `adapted` holds the input
    widths of a layer's adapted matrices; `logits` is V if the vocabulary head runs; `frozen`: no layer is trained.
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
    longest: Sequence[int] = ()
    frozen: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of all sequences in a micro-batch."""
        return self.rows * sum(self.lengths)

    @property
    def padded(self) -> list[int]:
        """Tokens of each sequence in a micro-batch that is padded to the longest row."""
        return [self.rows * length for length in self.longest or self.lengths]
