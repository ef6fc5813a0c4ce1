"""A run's newest checkpoint small enough to travel: AdamW's moments in bf16, in pieces.

The weights stay as they are. Rounded moments change the next steps a little; they are of the size of the gradients.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import parcels
import torch

from perank.errors import BadInput
from perank.training.checkpoints import newest_checkpoint, read_checkpoint

PIECE = 13_000_000  # bytes


def save(run: Path, folder: Path) -> list[Path]:
    """Write the pieces of the run's newest checkpoint into `folder`. Raises `BadInput` if there is none."""
    newest = newest_checkpoint(run)
    if newest is None:
        raise BadInput("no checkpoint", remedy="train first", path=run)
    content = read_checkpoint(newest)
    _moments(content, torch.float32, torch.bfloat16)
    with TemporaryDirectory() as temporary:
        whole = Path(temporary) / newest.name
        torch.save(content, whole)
        return parcels.split(whole, folder, PIECE)


def restore(folder: Path, run: Path) -> Path:
    """Join the pieces to a checkpoint of the run in `run`, which training resumes from."""
    path = parcels.join(folder, run / "checkpoints")
    content = read_checkpoint(path)
    _moments(content, torch.bfloat16, torch.float32)
    torch.save(content, path)
    return path


def _moments(checkpoint: dict[str, Any], source: torch.dtype, target: torch.dtype) -> None:
    """Change the type of the optimizer's tensors, not of its step counts."""
    for optimizer in checkpoint["optimizer_states"]:
        for state in optimizer["state"].values():
            for name, value in state.items():
                if name != "step" and isinstance(value, torch.Tensor) and value.dtype == source:
                    state[name] = value.to(target)
