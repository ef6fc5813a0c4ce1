"""Buffers that have to stay fp32 whatever casts the module: rotary frequencies, the score scale.

DeepSpeed casts a module whole. Frequencies rounded to bf16 would turn the positions behind the first few hundred tokens
into noise: an error of 1 in 256 times a position of 2,000 is several radians.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def buffers_in_fp32(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's fp32 buffers, by name."""
    return {name: buffer.clone() for name, buffer in module.named_buffers() if buffer.dtype == torch.float32}


def restore_buffers(module: nn.Module, kept: dict[str, Tensor]) -> None:
    """Put back those that were cast since; others, loaded ones among them, stay as they are."""
    for name, buffer in list(module.named_buffers()):
        if name in kept and buffer.dtype != torch.float32:
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, kept[name].to(buffer.device))
