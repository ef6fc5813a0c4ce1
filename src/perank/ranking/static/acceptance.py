"""Accept draft nodes without a loop: a node is accepted if it and all its ancestors are their parent's best choice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perank.ranking.static.drafts import Draft


@dataclass(frozen=True, slots=True)
class Accepted:
    """kept_BK: the accepted nodes, a chain from the root; took_B: their number; last_B: the deepest of them.

    left_BKN: the candidates still open after each node; margin_BK: the best one's lead over the second.
    """

    kept_BK: Tensor
    took_B: Tensor
    last_B: Tensor
    left_BKN: Tensor
    margin_BK: Tensor


def accept(tree: Draft, scores_BKN: Tensor, open_BN: Tensor, running_B: Tensor) -> Accepted:
    """Accept nodes by the scores after each node, ties by position; rows that aren't running accept nothing."""
    ranks_BKN = (tree.items_BK[..., None] == torch.arange(open_BN.shape[1], device=open_BN.device)).to(scores_BKN.dtype)
    left_BKN = open_BN[:, None] & (tree.ancestry_BKK.to(scores_BKN.dtype) @ ranks_BKN == 0)
    masked_BKN = scores_BKN.masked_fill(~left_BKN, -torch.inf)
    first_BK2 = masked_BKN.topk(2, dim=2).values
    next_BK = masked_BKN.argmax(2)  # the first of ties
    right_BK = tree.real_BK & (tree.items_BK == next_BK.gather(1, tree.parent_BK))
    right_BK[:, 0] = True
    kept_BK = ~(tree.ancestry_BKK & ~right_BK[:, None]).any(2) & running_B[:, None]
    return Accepted(
        kept_BK=kept_BK,
        took_B=kept_BK.sum(1),
        last_B=torch.where(kept_BK, tree.depth_BK, -1).argmax(1),
        left_BKN=left_BKN,
        margin_BK=first_BK2[..., 0] - first_BK2[..., 1],
    )
