"""Drafted ranks against the scores behind them: how many greedy decoding takes, and what to draft next. Pure.

Each row feeds the first `ahead` ranks of its draft. scores_BKN holds 1 + K steps: step 0 has seen none of the draft,
step i its first i ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Draft:
    """Row b feeds the first `ahead_B[b]` ranks of `order_BK`; `length` is the most any row feeds."""

    order_BK: Tensor
    ahead_B: Tensor
    length: int

    @property
    def fed(self) -> Tensor:
        """[B, length] candidates to feed; what stands behind a row's own `ahead` is padding and may repeat."""
        return self.order_BK[:, : self.length]

    def places(self, n: int) -> Tensor:
        """Where each of n candidates stands among the fed ranks, [B, N]; `length` for all others."""
        place_BN = torch.full((len(self.order_BK), n), self.length, device=self.order_BK.device)
        step_K = torch.arange(self.length, device=place_BN.device)
        step_BK = torch.where(step_K < self.ahead_B[:, None], step_K, self.length)
        return place_BN.scatter_reduce_(1, self.fed, step_BK, "amin")

    def only(self, rows: Tensor) -> Draft:
        """These rows."""
        return Draft(self.order_BK[rows], self.ahead_B[rows], self.length)


def agreement(scores_BKN: Tensor, draft: Draft, open_BN: Tensor) -> tuple[Tensor, Tensor]:
    """(accepted_B, margin_BK): how many drafted ranks greedy decoding takes, in their order, ties to the lower
    position; and by how much each step's best candidate beats its second.
    """
    step_K = torch.arange(scores_BKN.shape[1], device=scores_BKN.device)
    left_BKN = open_BN[:, None] & (draft.places(open_BN.shape[1])[:, None] >= step_K[:, None])
    masked_BKN = scores_BKN.masked_fill(~left_BKN, -torch.inf)
    margin_BK = torch.full_like(masked_BKN[..., 0], torch.inf)
    if masked_BKN.shape[2] > 1:
        top_BK2 = masked_BKN.topk(2, dim=2).values
        margin_BK = top_BK2[..., 0] - top_BK2[..., 1]
    agrees_BK = (masked_BKN.argmax(2)[:, :-1] == draft.fed) & (step_K[:-1] < draft.ahead_B[:, None])
    return agrees_BK.int().cumprod(1).sum(1), margin_BK


def at_step(scores_BKN: Tensor, step_B: Tensor) -> Tensor:
    """scores_BN of one step a row."""
    return scores_BKN.gather(1, step_B[:, None, None].expand(-1, 1, scores_BKN.shape[2]))[:, 0]


def redraft(scores_BKN: Tensor, old: Draft, accepted_B: Tensor, open_BN: Tensor, ahead: list[int]) -> Draft:
    """The next draft; its first rank is certain.

    Rank p takes the best open candidate by the old draft's scores at that very rank: the prefix they have seen holds
    nearly the same passages. Beyond the old draft its last scores serve.
    """
    open_BN, chosen = open_BN.clone(), list[Tensor]()
    for p in range(max(ahead)):
        scores_BN = at_step(scores_BKN, torch.minimum(accepted_B + p, old.ahead_B))
        best_B1 = scores_BN.masked_fill(~open_BN, -torch.inf).argmax(1, keepdim=True)
        open_BN.scatter_(1, best_B1, False)
        chosen.append(best_B1)
    return Draft(torch.cat(chosen, 1), torch.tensor(ahead, device=open_BN.device), max(ahead))
