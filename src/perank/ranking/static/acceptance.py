"""Which of a draft's nodes greedy decoding takes, without a loop: those whose every ancestor is its parent's choice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perank.ranking.static.drafts import Draft


@dataclass(frozen=True, slots=True)
class Accepted:
    """kept_BK: a chain of nodes from the root on; took_B: how many; last_B: the deepest of them.

    left_BKN: who is still open behind each node; margin_BK: by how much the best of them leads there.
    """

    kept_BK: Tensor
    took_B: Tensor
    last_B: Tensor
    left_BKN: Tensor
    margin_BK: Tensor


def accept(tree: Draft, scores_BKN: Tensor, open_BN: Tensor, running_B: Tensor) -> Accepted:
    """Scores behind each node decide who comes next, ties by position; rows that aren't running keep nothing."""
    ranks_BKN = (tree.items_BK[..., None] == torch.arange(open_BN.shape[1], device=open_BN.device)).to(scores_BKN.dtype)
    left_BKN = open_BN[:, None] & (tree.ancestry_BKK.to(scores_BKN.dtype) @ ranks_BKN == 0)
    masked_BKN = scores_BKN.masked_fill(~left_BKN, -torch.inf)
    first_BK2 = masked_BKN.topk(2, dim=2).values
    next_BK = masked_BKN.argmax(2)  # the first of equals
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
