"""Dtypes and devices by name, and buffers that stay fp32. `auto` is bf16 if the hardware multiplies it, else fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from perank.errors import BadInput


def dtype_of(name: str, device: str | torch.device = "cpu") -> torch.dtype:
    """The torch dtype called `name`. Raises `BadInput` for anything but auto and floating point types."""
    if name == "auto":
        return torch.bfloat16 if multiplies_bf16(device) else torch.float32
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise BadInput(f"unknown dtype {name!r}", remedy="choose auto, float32, bfloat16, float16 or float64")
    return found


def dtype_name(name: str, device: str | torch.device = "cpu") -> str:
    """The name of `dtype_of`, with `auto` resolved for the device."""
    return str(dtype_of(name, device)).removeprefix("torch.")


def known_device(name: str) -> torch.device:
    """The torch device called `name`. Raises `BadInput` for an unknown device or an unavailable GPU."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"unknown device {name!r}", remedy="choose cpu, cuda or cuda:<number>") from error
    if device.type not in ("cpu", "cuda", "mps") or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise BadInput(f"no device {name!r} to compute on", remedy="choose cpu, cuda or cuda:<number>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"no GPU that torch can use for {name!r}", remedy="choose cpu, or install torch for CUDA")
    return device


def multiplies_bf16(device: str | torch.device) -> bool:
    """Whether the device has native bf16 matrix products (elsewhere they are slower than fp32)."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        capabilities = torch.backends.cpu.get_cpu_capability()
        return "AVX512" in capabilities and torch.cpu._is_avx512_bf16_supported()
    return False


def autocast_for(module: Any, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to the LLM's dtype if trained parameters are wider than its frozen weights; else a null context."""
    narrow = {p.dtype for p in module.parameters() if p.dtype in (torch.bfloat16, torch.float16)}
    wide = any(p.dtype == torch.float32 for p in module.parameters())
    return torch.autocast(device.type, narrow.pop()) if narrow and wide else nullcontext()


def buffers_in_fp32(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's fp32 buffers, by name: rotary frequencies, the score scale.

    They must stay fp32 when the module is cast (DeepSpeed casts all of it). Frequencies rounded to bf16 would turn
    positions after the first few hundred tokens into noise: 1/256 of a position of 2,000 is several radians.
    """
    return {name: buffer.clone() for name, buffer in module.named_buffers() if buffer.dtype == torch.float32}


def restore_buffers(module: nn.Module, kept: dict[str, Tensor]) -> None:
    """Restore buffers that were cast since; all others, including loaded ones, stay unchanged."""
    for name, buffer in list(module.named_buffers()):
        if name in kept and buffer.dtype != torch.float32:
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, kept[name].to(buffer.device))
