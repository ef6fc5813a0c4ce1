"""The sums of the vectors ranked so far, for scores that depend on them (`Anchors`): along a ranking or draft trees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perank.model import Origin, PERank


class Trail:
    """`origin` is that of the current step of B windows. For models that don't need it, nothing is computed."""

    def __init__(self, model: PERank, vectors_BNE: Tensor, origin: Origin | None) -> None:
        self.anchors = model.anchors if model.needs_origin else None
        self.origin = origin
        self.vectors_BNE, self.sum_BE = vectors_BNE, torch.zeros_like(vectors_BNE[:, 0])
        self._drafted_BKE: Tensor | None = None

    def add(self, chosen_B: Tensor) -> Origin | None:
        """The origin after one more rank per window."""
        if self.origin is None or self.anchors is None:
            return None
        self.sum_BE = self.sum_BE + at(self.vectors_BNE, chosen_B[:, None])[:, 0]
        return self.anchors.after(self.origin, self.sum_BE[:, None])

    def draft(self, items_BK: Tensor, ancestry_BKK: Tensor) -> Origin | None:
        """The origin after every node of draft trees: row k of the ancestry marks node k and its ancestors."""
        if self.origin is None or self.anchors is None:
            return None
        self._drafted_BKE = drafted(self.vectors_BNE, self.sum_BE, items_BK, ancestry_BKK)
        return self.anchors.after(self.origin, self._drafted_BKE)

    def settle(self, paths: Sequence[Sequence[int]]) -> None:
        """Keep these nodes of each row's last tree, from the root on."""
        if self._drafted_BKE is not None:
            last_B1 = torch.tensor([path[-1:] for path in paths], device=self.sum_BE.device)
            self.sum_BE = at(self._drafted_BKE, last_B1)[:, 0]

    def keep(self, index: Tensor) -> None:
        """Keep these rows only."""
        self.vectors_BNE, self.sum_BE = self.vectors_BNE[index], self.sum_BE[index]
        self.origin = None if self.origin is None else self.origin.rows(index)


def drafted(vectors_BNE: Tensor, sum_BE: Tensor, items_BK: Tensor, ancestry_BKK: Tensor) -> Tensor:
    """sums_BKE after every node: the sum before the tree, and the vectors along the node's path."""
    return sum_BE[:, None] + ancestry_BKK.to(vectors_BNE.dtype) @ at(vectors_BNE, items_BK)


def at(values_BXD: Tensor, index_BK: Tensor) -> Tensor:
    """values[b, index[b, k]], [B, K, D]."""
    return values_BXD.gather(1, index_BK[..., None].expand(-1, -1, values_BXD.shape[2]))
