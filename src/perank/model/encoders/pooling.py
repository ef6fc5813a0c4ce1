"""From the hidden states of a text's tokens to one vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _weighted(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean in which the i-th token counts i times (SGPT)."""
    weights_BL = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (hidden * weights_BL[..., None]).sum(1) / weights_BL.sum(1, keepdim=True)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # fp32 hidden_BLE, integer mask_BL -> [B, E]; right padding is assumed
    "mean": lambda hidden, mask: (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
    "cls": lambda hidden, mask: hidden[:, 0],
    "last": lambda hidden, mask: hidden[torch.arange(len(hidden), device=mask.device), mask.sum(1) - 1],
    "max": lambda hidden, mask: hidden.masked_fill(mask[..., None] == 0, -torch.inf).amax(1),
    "mean_sqrt": lambda hidden, mask: (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).sqrt(),
    "weighted": _weighted,
}
