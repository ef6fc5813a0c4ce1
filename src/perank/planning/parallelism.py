"""How a trainer config spreads a run over GPUs: what the memory arithmetic has to know of it, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perank.errors import BadInput

_SHARDED = {"perank.training.fsdp.ShardedStrategy": "fsdp", "lightning.pytorch.strategies.DeepSpeedStrategy": "zero2"}


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
