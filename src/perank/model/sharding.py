"""Shard a model (FSDP2, torch's `fully_shard`), access its parts, and gather it again.

Each layer of the LLM is one group of weights, the projector another; embeddings, final norm and head belong to the
root. A group is gathered only while it computes. Training calls `step_states`, `reconstruction_loss` or `answer_loss`,
where the root gathers its group; code that calls the parts directly (decoding) must run inside `gathered`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from perank.errors import BadInput


def shard_model(model: Any, mesh: Any, dtype: torch.dtype | None) -> None:
    """Shard the weights of a PERank or TextRanker over the devices of `mesh`, in place.

    Shards keep the weights' type; groups are gathered as `dtype` (None: unchanged), gradients are summed in fp32.
    Raises `BadInput` for LLMs without the usual list of layers, and quantised ones.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.decoder.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise BadInput(f"{type(model.llm).__name__} has no layers to shard", remedy="use trainer=ddp")
    if getattr(model.llm, "is_quantized", False):
        raise BadInput("a quantised LLM can't be sharded", remedy="use trainer=ddp, or backbone.quantise=false")
    if getattr(model, "anchors", None) is not None:
        raise BadInput("a model with anchors can't be sharded", remedy="use trainer=ddp, or anchors=null")
    options = {"mesh": mesh, "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)}
    for group in (*layers, *(child for child in model.children() if child is not model.llm), model):
        fully_shard(group, **options)
    for method in ("step_states", "reconstruction_loss", "answer_loss"):
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)


def is_sharded(module: nn.Module) -> bool:
    """Whether the module is sharded, so that all devices must run it equally often."""
    return any(_in_shards(parameter) for parameter in module.parameters())


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """A context in which a PERank's parts can be called directly, by all devices together; no-op if not sharded."""
    sharded: Any = model if is_sharded(model) else None
    if sharded is not None:
        sharded.unshard()
    try:
        yield
    finally:
        if sharded is not None:
            sharded.reshard()


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict with full tensors; for a sharded module, on the first device's CPU, and empty on the others.

    All devices must call it together. A tensor with two names is stored as one tensor.
    """
    if not is_sharded(module):
        return module.state_dict()
    names = dict(module.named_parameters(remove_duplicate=False))
    made: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        key = id(names.get(name, value))
        if key not in made:
            made[key] = full_on_first(value)
        if is_first():
            state[name] = made[key]
    return state


def full_on_first(value: Any) -> Any:
    """Gather a sharded tensor on the first device's CPU; elsewhere its whole is dropped, and an empty one returned.

    All devices must call it. Other values are returned unchanged.
    """
    if not _in_shards(value):
        return value
    whole = value.full_tensor()
    return whole.cpu() if is_first() else torch.empty(0)


def is_first() -> bool:
    """Whether this is the process that writes files, or the only one."""
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def shard_state_like(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Shard full tensors for this device where the tensor of the same name in `like` is sharded."""
    return {name: shard_like(value, like[name]) if name in like else value for name, value in state.items()}


def shard_like(value: Any, like: Any) -> Any:
    """Shard a tensor like `like`, if that is sharded and of the same shape; else return it unchanged."""
    if not isinstance(value, Tensor) or not _in_shards(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    device = like.to_local().device
    return distribute_tensor(value.to(device), like.device_mesh, like.placements, src_data_rank=None)


def _in_shards(value: Any) -> bool:
    # By name: importing torch.distributed.tensor is slow, and only multi-device training needs it.
    return type(value).__name__ == "DTensor" or hasattr(value, "full_tensor")
