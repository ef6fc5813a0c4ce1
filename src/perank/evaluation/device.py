"""What results were measured on, and with which perank."""

from __future__ import annotations

import os
from importlib.metadata import version


def perank_version() -> str:
    """The installed version."""
    return version("perank")


def device_name(device: str | None = None) -> str:
    """What results were measured on: `CPU, 2 cores`, or an accelerator's name.

    `device` is a torch device such as `cuda:0`; without one, the first CUDA device if there is any.
    """
    import torch

    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda"):
        return torch.cuda.get_device_name(kind)
    if not kind.startswith("cpu"):
        return kind.upper()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"CPU, {cores} core{'s' if cores > 1 else ''}"
