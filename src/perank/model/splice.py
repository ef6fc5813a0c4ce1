"""Puts vectors at placeholder positions of an embedded prompt (Eq. 1 and 2). Pure; gradients reach both inputs."""

from __future__ import annotations

import torch
from torch import Tensor


def splice(embedded_BLD: Tensor, slots_BN: Tensor, vectors_BND: Tensor) -> Tensor:
    """A copy of `embedded_BLD` whose position `slots_BN[b, n]` holds `vectors_BND[b, n]`; slots of -1 are skipped."""
    rows, columns = torch.nonzero(slots_BN >= 0, as_tuple=True)
    positions = slots_BN[rows, columns]
    return embedded_BLD.index_put((rows, positions), vectors_BND[rows, columns].to(embedded_BLD.dtype))
