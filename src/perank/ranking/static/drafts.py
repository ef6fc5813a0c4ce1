"""`draft_tree` as tensor arithmetic: the most probable continuations of B rankings at once, in a fixed number of steps.

A continuation is less probable than its prefix, so the most probable nodes of a tree are found level by level: a node
among the best K overall is among the best K of its level, and so are its ancestors. No shape or control flow depends on
tensor values, so the code can be captured in a CUDA graph.

L is the number of levels, P of the best open candidates that a draft considers, K of a draft's nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TEMPERATURE_GROWTH = 0.1  # as in draft_tree: relative growth of the temperature per rank
_FLATTEST = 600  # as in draft_tree: the best is at most exp(600) times as probable as the last
_TAKEN = -1e6  # log-probability of invalid continuations; valid ones stay above K * -_FLATTEST


@dataclass(frozen=True, slots=True)
class Draft:
    """K nodes per row. Node 0 is the root; rows with fewer than K continuations are padded, `real_BK` is False there.

    items_BK: the candidate of a node; depth_BK: its depth; ancestry_BKK[b, k, j]: whether node j is node k or its
    ancestor; parent_BK: the root is its own parent.
    """

    items_BK: Tensor
    depth_BK: Tensor
    ancestry_BKK: Tensor
    parent_BK: Tensor
    real_BK: Tensor


def draft_size(nodes: int, levels: int, passages: int) -> int:
    """The size of a draft of at most `nodes` nodes: few passages or levels allow fewer continuations."""
    return min(nodes, 1 + sum(_widths(nodes, levels, min(nodes + 1, passages))))


def draft(
    scores_BN: Tensor, open_BN: Tensor, temperature_B: Tensor, depth_B: Tensor, *, nodes: int, levels: int
) -> Draft:
    """Build the trees of `draft_tree` from each row's scores over its open candidates, at most `depth_B` ranks deep."""
    places = min(nodes + 1, scores_BN.shape[1])
    sorted_BN, order_BN = scores_BN.masked_fill(~open_BN, -torch.inf).sort(dim=1, descending=True, stable=True)
    logits_BLP = _logits(sorted_BN[:, :places], open_BN.sum(1), temperature_B, levels)
    path_BKL, cost_BK = _most_probable(logits_BLP, depth_B, nodes)
    # Paths are padded with P (no place), so that a prefix matches all its continuations.
    same_BKKL = (path_BKL[:, None] == path_BKL[:, :, None]) | (path_BKL[:, None] == places)
    ancestry_BKK = same_BKKL.all(3)
    depth_BK = (path_BKL < places).sum(2) - 1
    parent_BKK = ancestry_BKK & (depth_BK[:, None] == depth_BK[:, :, None] - 1)
    place_BK = path_BKL.gather(2, depth_BK[..., None])[..., 0]
    return Draft(
        items_BK=order_BN.gather(1, place_BK),
        depth_BK=depth_BK,
        ancestry_BKK=ancestry_BKK,
        parent_BK=parent_BKK.byte().argmax(2),
        real_BK=cost_BK > _TAKEN / 2,
    )


def _logits(best_BP: Tensor, open_B: Tensor, temperature_B: Tensor, levels: int) -> Tensor:
    """scores / temperature per level [B, L, P], relative to the best; places beyond the open ones are masked."""
    places = best_BP.shape[1]
    worst_B1 = best_BP.gather(1, open_B.clamp(1, places)[:, None] - 1)
    growth_L = 1 + _TEMPERATURE_GROWTH * torch.arange(levels, device=best_BP.device)
    floor_B1 = ((best_BP[:, :1] - worst_B1) / _FLATTEST).clamp(min=1e-9)
    temperature_BL = torch.maximum(temperature_B[:, None] * growth_L, floor_B1)
    there_BP = torch.arange(places, device=best_BP.device) < open_B[:, None]
    below_BP = torch.where(there_BP, best_BP - best_BP[:, :1], 0)
    return torch.where(there_BP[:, None], below_BP[:, None] / temperature_BL[..., None], _TAKEN)


def _most_probable(logits_BLP: Tensor, depth_B: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Paths [B, K, L] of places from the root on, padded with P, and their log-probabilities [B, K]."""
    batch, levels, places = logits_BLP.shape
    path_BWL = depth_B.new_full((batch, 1, levels), places)
    path_BWL[..., 0] = 0
    cost_BW = logits_BLP.new_zeros(batch, 1)
    paths, costs = [path_BWL], [cost_BW + torch.inf]  # the root comes first
    for level, width in enumerate(_widths(nodes, levels, places), start=1):
        taken_BWX = cost_BW.new_zeros(*cost_BW.shape, places + 1).scatter_(2, path_BWL, _TAKEN)
        share_BWP = taken_BWX[..., :places] + logits_BLP[:, level - 1, None]
        share_BWP = share_BWP.log_softmax(2)
        cost_BW, index_BW = share_BWP.add_(cost_BW[..., None]).flatten(1).topk(width, dim=1)
        path_BWL = path_BWL.gather(1, (index_BW // places)[..., None].expand(-1, -1, levels))
        path_BWL[..., level] = index_BW % places
        paths.append(path_BWL)
        costs.append(cost_BW)
    path_BSL, cost_BS = torch.cat(paths, dim=1), torch.cat(costs, dim=1)
    deep_BS = (path_BSL < places).sum(2) > depth_B[:, None]
    deep_BS[:, 0] = False
    # Stable, because a certain child is as probable as its parent, which must come first.
    cost_BS, chosen_BS = cost_BS.masked_fill(deep_BS, -torch.inf).sort(dim=1, descending=True, stable=True)
    return path_BSL.gather(1, chosen_BS[:, :nodes, None].expand(-1, -1, levels)), cost_BS[:, :nodes]


def _widths(nodes: int, levels: int, places: int) -> list[int]:
    """The maximum number of nodes per level below the root that can be among the best.

    Of K nodes at most K - l are at level l, because l nodes are ancestors.
    """
    widths = [1]
    for level in range(1, levels):
        widths.append(min(nodes - level, widths[-1] * places))
    return widths[1:]
