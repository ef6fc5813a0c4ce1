"""A model in shards (FSDP2, torch's `fully_shard`): made, looked at from outside, gathered again.

Each layer of the LLM is one group of weights, the projector another, and embeddings, final norm and head are the
root's. A group's weights are whole only while it computes. Training enters by `step_states`, `token_logits` or
`answer_loss`, where the root gathers its own; code that calls the parts directly (decoding) does so inside
`gathered`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from perank.errors import BadInput


def shard_model(model: Any, mesh: Any, dtype: torch.dtype | None) -> None:
    """Leave every device of `mesh` its share of the weights of a PERank or TextRanker, in place.

    Shards keep the weights' type; groups are gathered as `dtype` (None: as they are), gradients summed in fp32.
    Raises `BadInput` for LLMs without layers of the usual kind, and quantised ones.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.decoder.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise BadInput(f"{type(model.llm).__name__} has no layers to shard", remedy="use trainer=ddp")
    if getattr(model.llm, "is_quantized", False):
        raise BadInput("a quantised LLM can't be sharded", remedy="use trainer=ddp, or backbone.quantise=false")
    options = {"mesh": mesh, "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)}
    for group in (*layers, *(child for child in model.children() if child is not model.llm), model):
        fully_shard(group, **options)
    for method in ("step_states", "token_logits", "answer_loss"):
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)


def is_sharded(module: nn.Module) -> bool:
    """Whether devices hold shares of it, so that they must all run it, and as often."""
    return any(_in_shards(parameter) for parameter in module.parameters())


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Inside, a PERank's parts can be called by themselves (all devices at once). Nothing for a model that is whole."""
    sharded: Any = model if is_sharded(model) else None
    if sharded is not None:
        sharded.unshard()
    try:
        yield
    finally:
        if sharded is not None:
            sharded.reshard()


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict with whole tensors: of a sharded module on the CPU of the first device, elsewhere empty.

    All devices have to ask for it together. A tensor that has two names is one tensor.
    """
    if not is_sharded(module):
        return module.state_dict()
    import torch.distributed as dist

    names = dict(module.named_parameters(remove_duplicate=False))
    made: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        key = id(names.get(name, value))
        if key not in made:
            made[key] = full_tensor(value)
        if dist.get_rank() == 0:
            state[name] = made[key]
        else:
            made[key] = torch.empty(0)
    return state


def full_tensor(value: Any) -> Any:
    """A tensor in shards as one on the CPU (all devices have to ask); anything else as it is."""
    return value.full_tensor().cpu() if _in_shards(value) else value


def shard_state_like(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This device's shares of whole tensors, where the tensor of that name in `like` is in shards."""
    return {name: shard_like(value, like[name]) if name in like else value for name, value in state.items()}


def shard_like(value: Any, like: Any) -> Any:
    """A tensor in the shards of `like`, if that is in shards and of its shape; anything else as it is."""
    if not isinstance(value, Tensor) or not _in_shards(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    device = like.to_local().device
    return distribute_tensor(value.to(device), like.device_mesh, like.placements, src_data_rank=None)


def _in_shards(value: Any) -> bool:
    # By name: importing torch.distributed.tensor takes a while, and only training on several devices needs it.
    return type(value).__name__ == "DTensor" or hasattr(value, "full_tensor")
