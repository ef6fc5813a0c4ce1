"""Prefill and draft verification on fixed buffers: `prefill` once, then `step` until `left` is 0.

Neither function synchronises the device or has a shape that depends on values: on CUDA each can be captured once and
replayed, on a CPU they run eagerly. Drafts and acceptance are those of `Speculative`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perank.model import Origin, PERank
from perank.ranking.static.acceptance import Accepted, accept
from perank.ranking.static.drafts import Draft, draft
from perank.ranking.static.layers import Layers
from perank.ranking.static.state import Bucket, State
from perank.ranking.trail import at, drafted

_UNSEEN, _SEEN, _MEMORY = 0.2, 0.5, 0.5  # as in speculative.py: the uncertainty of a draft
_CPU_TOKENS = 512  # prompt tokens per CPU read: activations of more would not fit its cache


class Engine:
    """Buffers of one bucket; `left` is the number of rows with undecided ranks, `finite` whether all scores were."""

    def __init__(self, model: PERank, layers: Layers, bucket: Bucket) -> None:
        self.model, self.layers, self.bucket = model, layers, bucket
        self.state = State.empty(model, bucket)
        self.left = torch.zeros((), dtype=torch.long, device=layers.kv.device)
        self.finite = torch.ones((), dtype=torch.bool, device=layers.kv.device)

    def take(self, other: Engine, rows: Tensor) -> None:
        """Continue with these rows of another engine, whose prompts and passages have the same shapes."""
        first = torch.arange(len(rows), device=rows.device)
        self.state.steps_B.zero_()
        self.state.copy_rows(first, other.state, rows)
        held = self.bucket.prompt + self.bucket.passages
        self.layers.kv[:, : len(rows), :held] = other.layers.kv[:, rows, :held]
        self._count(other.finite)

    @torch.no_grad()
    def prefill(self, starts: Sequence[int] = (0,)) -> None:
        """Read the prompts and decide the first rank by their scores.

        The keys and values of each row's first `starts` tokens are in the cache; absent rows have no ranks to decide.
        """
        state, model = self.state, self.model
        state.projected_BND.copy_(model.project(state.vectors_BNE))
        state.tokens_BND.copy_(model.as_tokens(state.projected_BND))
        embedded_BLD = self._embedded()
        tokens, on_cpu = self.bucket.prompt - min(starts), embedded_BLD.device.type == "cpu"
        chunk = max(1, _CPU_TOKENS // tokens) if on_cpu else self.bucket.rows
        last = []
        for first in range(0, self.bucket.rows, chunk):
            rows = slice(first, first + chunk)
            start = min(starts[rows], default=0)
            hidden_BLD = self.layers.read(embedded_BLD[rows, start:], rows, start)
            last.append(at(hidden_BLD, (state.length_B[rows, None] - 1 - start).clamp(min=0)))
        scores_BN = self._scores(torch.cat(last))[:, 0]
        asked_B = state.steps_B > 0
        state.scores_BN.copy_(torch.where(asked_B[:, None], scores_BN, 0))
        best_B2 = scores_BN.masked_fill(~state.open_BN, -torch.inf).topk(2, dim=1).values
        state.margin_BX[:, 0] = best_B2[:, 0] - best_B2[:, 1]
        state.ranked_B.zero_()
        state.change_B.zero_()
        state.sum_BE.zero_()
        state.forwards_B.copy_(asked_B)
        state.processed_B.copy_(state.length_B * asked_B)
        self._count(scores_BN.isfinite().all())

    @torch.no_grad()
    def step(self) -> None:
        """Draft, score the draft, and keep the nodes that greedy decoding accepts."""
        state = self.state
        unsure_B = torch.where(
            state.ranked_B > 0, _SEEN * state.change_B, _UNSEEN * _deviation(state.scores_BN, state.open_BN)
        )
        depth_B = state.steps_B - state.ranked_B - 1
        tree = draft(
            state.scores_BN, state.open_BN, unsure_B, depth_B, nodes=self.bucket.nodes, levels=self.bucket.levels
        )
        ranked_BKE = None
        if self.model.needs_origin:
            ranked_BKE = drafted(state.vectors_BNE, state.sum_BE, tree.items_BK, tree.ancestry_BKK)
        scores_BKN = self._read(tree, depth_B, ranked_BKE)
        accepted = accept(tree, scores_BKN, state.open_BN, state.running)
        self._compact(tree, accepted)
        self._book(tree, accepted, scores_BKN, ranked_BKE)
        self._count(self.finite & scores_BKN.isfinite().all())

    def _count(self, finite: Tensor) -> None:
        """Update `left`, which is 0 after a non-finite score, because such drafts might never end."""
        self.finite.copy_(finite)
        self.left.copy_(self.state.running.sum() * finite)

    def _embedded(self) -> Tensor:
        """Eq. 1: token embeddings with the vectors at their slots, [B, L, D]; slots of L (none) are dropped."""
        state = self.state
        embedded_BLD = self.model.llm.get_input_embeddings()(state.ids_BL)
        slots_BX, vectors_BXD = state.slots_BN, state.tokens_BND
        if self.bucket.query:
            query_B1D = self.model.as_tokens(self.model.project(state.query_BE[:, None])).to(vectors_BXD.dtype)
            slots_BX = torch.cat([slots_BX, state.query_slot_B[:, None]], dim=1)
            vectors_BXD = torch.cat([vectors_BXD, query_B1D], dim=1)
        room_BLD = torch.nn.functional.pad(embedded_BLD, (0, 0, 0, 1))
        index_BXD = slots_BX[..., None].expand(-1, -1, room_BLD.shape[2])
        return room_BLD.scatter(1, index_BXD, vectors_BXD)[:, :-1]

    def _read(self, tree: Draft, depth_B: Tensor, ranked_BKE: Tensor | None) -> Tensor:
        """scores_BKN after every node of a draft."""
        state = self.state
        base_B1 = (state.length_B + state.ranked_B)[:, None]
        before_BC = torch.arange(self.bucket.entries, device=base_B1.device) < base_B1
        nodes = tree.items_BK.shape[1]
        seen_BKM = torch.cat([before_BC[:, None].expand(-1, nodes, -1), tree.ancestry_BKK], dim=2)
        # Padding nodes may exceed the LLM's positions.
        position_BK = base_B1 + torch.minimum(tree.depth_BK, depth_B.clamp(min=0)[:, None])
        hidden_BKD = self.layers.append(at(state.tokens_BND, tree.items_BK), position_BK, seen_BKM)
        return self._scores(hidden_BKD, ranked_BKE)

    def _scores(self, hidden_BKD: Tensor, ranked_BKE: Tensor | None = None) -> Tensor:
        state, anchors = self.state, self.model.anchors
        origin = Origin(state.ranks_BN, state.first_BE[:, None])
        if anchors is not None and ranked_BKE is not None:
            origin = anchors.after(origin, ranked_BKE)
        query_BE = state.query_BE if self.bucket.query else None
        return self.model.score(hidden_BKD, state.projected_BND, state.vectors_BNE, query_BE, origin)

    def _compact(self, tree: Draft, accepted: Accepted) -> None:
        """Copy kept nodes after the accepted tokens; entries after these are overwritten before they are read."""
        kv, state, levels = self.layers.kv, self.state, self.bucket.levels
        nodes_K = torch.arange(tree.items_BK.shape[1], device=kv.device)
        level_BK = torch.where(accepted.kept_BK, tree.depth_BK, levels)
        node_BL = torch.zeros_like(level_BK[:, :1]).expand(-1, levels + 1)
        node_BL = node_BL.scatter(1, level_BK, nodes_K.expand_as(level_BK))[:, :levels]
        rows_B1 = torch.arange(len(kv[0]), device=kv.device)[:, None]
        to_BL = (state.length_B + state.ranked_B)[:, None] + torch.arange(levels, device=kv.device)
        kv[:, rows_B1, to_BL] = kv[:, rows_B1, self.bucket.entries + node_BL]

    def _book(self, tree: Draft, accepted: Accepted, scores_BKN: Tensor, ranked_BKE: Tensor | None) -> None:
        """Record the new ranks with their margins, and the state that the next draft needs."""
        state, kept_BK, n = self.state, accepted.kept_BK, self.bucket.passages
        running_B1 = state.running[:, None]
        rank_BK = state.ranked_B[:, None] + tree.depth_BK
        state.order_BX.scatter_(1, torch.where(kept_BK, rank_BK, n), tree.items_BK)
        state.margin_BX.scatter_(1, torch.where(kept_BK, rank_BK + 1, n), accepted.margin_BK)
        before_BKN = torch.cat([state.scores_BN[:, None], at(scores_BKN, tree.parent_BK[:, 1:])], dim=1)
        change_BK = _deviation(scores_BKN - before_BKN, accepted.left_BKN)
        # The running average c += _MEMORY * (change - c) over the kept nodes; the very first change is c itself.
        age_BK = accepted.took_B[:, None] - 1 - tree.depth_BK
        weight_BK = torch.where(kept_BK, (1 - _MEMORY) ** age_BK.to(change_BK.dtype), 0)
        first_BK = (tree.depth_BK == 0) & (state.ranked_B == 0)[:, None]
        weight_BK = torch.where(first_BK, weight_BK, _MEMORY * weight_BK)
        faded_B = state.change_B * (1 - _MEMORY) ** accepted.took_B.to(change_BK.dtype)
        state.change_B.copy_(faded_B + (weight_BK * change_BK).sum(1))
        last_B1 = accepted.last_B[:, None]
        state.scores_BN.copy_(torch.where(running_B1, at(scores_BKN, last_B1)[:, 0], state.scores_BN))
        state.open_BN.copy_(torch.where(running_B1, at(accepted.left_BKN, last_B1)[:, 0], state.open_BN))
        if ranked_BKE is not None:
            state.sum_BE.copy_(torch.where(running_B1, at(ranked_BKE, last_B1)[:, 0], state.sum_BE))
        state.forwards_B.add_(state.running)
        state.processed_B.add_(tree.real_BK.sum(1) * state.running)
        state.ranked_B.add_(accepted.took_B)


def _deviation(values_BxN: Tensor, there_BxN: Tensor) -> Tensor:
    """Standard deviation over the last dimension's unmasked values."""
    count_Bx = there_BxN.sum(-1).clamp(min=1)
    mean_Bx = torch.where(there_BxN, values_BxN, 0).sum(-1) / count_Bx
    square_BxN = torch.where(there_BxN, values_BxN - mean_Bx[..., None], 0).square()
    return (square_BxN.sum(-1) / count_Bx).sqrt()
