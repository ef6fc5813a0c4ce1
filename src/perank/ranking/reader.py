"""Run B windows through the LLM: feed candidates by position, get scores over all N candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model import Origin, PERank
from perank.ranking.decoder import WindowBatch
from perank.ranking.draft_tree import Tree
from perank.ranking.kv_cache import KVCache
from perank.ranking.trail import Trail


class Reader:
    """Projects the vectors and reads the prompts once, then takes ranks one by one or as draft trees.

    `ranks` is the maximum number of ranks kept per row, `nodes` the size of the largest tree. `lengths` are the tokens
    of each row. Scores are those of `PERank.score`, fp32 or wider. Raises what `KVCache` raises.
    """

    def __init__(self, model: PERank, windows: WindowBatch, *, ranks: int, nodes: int = 0) -> None:
        self.model, self.prompts, self.prefixes = model, windows.prompts, windows.prefixes
        self.vectors_BNE, self.query_BE = windows.vectors_BNE, windows.query_BE
        self.projected_BND = model.project(self.vectors_BNE)
        self.trail = Trail(model, self.vectors_BNE, windows.origin)
        self.lengths: list[int] = self.prompts.length_B.tolist()
        self.memory = KVCache(model, max(self.lengths) + ranks, nodes)
        self._dtype = model.llm.get_input_embeddings().weight.dtype
        self._finite = torch.ones((), dtype=torch.bool, device=self.vectors_BNE.device)

    def read(self) -> Tensor:
        """scores_BN after the prompts."""
        query_BD = None if self.query_BE is None else self.model.project(self.query_BE)
        embedded_BLD = self.model.embed(self.prompts, self.projected_BND, query_BD)
        hidden_BD = self.memory.read(embedded_BLD, self.lengths, self.prefixes.known)
        self.prefixes.keep(self.memory.first)
        return self._scores(hidden_BD[:, None], self.trail.origin)[:, 0]

    def feed(self, chosen_B: Tensor) -> Tensor:
        """Append one rank per row and return scores_BN after it, without synchronising the device."""
        entry_B1 = self._on_device(self.lengths)[:, None]
        self.lengths = [length + 1 for length in self.lengths]
        seen_B1M = torch.arange(max(self.lengths), device=entry_B1.device) <= entry_B1[..., None]
        hidden_B1D = self.memory.append(self._vectors(chosen_B[:, None]), entry_B1, entry_B1, seen_B1M)
        return self._scores(hidden_B1D, self.trail.add(chosen_B))[:, 0]

    def feed_trees(self, trees: Sequence[Tree]) -> Tensor:
        """scores_BKN after every node of one tree per row, padded to the largest. `settle` then selects nodes."""
        size = max(map(len, trees))
        packed_B3K, seen_BKK = np.zeros((len(trees), 3, size), int), np.zeros((len(trees), size, size), bool)
        packed_B3K[:, 2] = -1
        for b, tree in enumerate(trees):
            packed_B3K[b, :, : len(tree)] = tree.items, tree.depths, range(len(tree))
            seen_BKK[b, : len(tree), : len(tree)] = tree.ancestry()
        base_B1 = self._on_device(self.lengths)[:, None]
        items_BK, depths_BK, places_BK = torch.from_numpy(packed_B3K).to(base_B1.device).unbind(1)
        seen_BM = torch.arange(max(self.lengths) + size, device=base_B1.device) < base_B1
        drafted_BK = base_B1 + torch.arange(size, device=base_B1.device)
        ancestry_BKK = torch.from_numpy(seen_BKK).to(base_B1.device)
        index_BKK = drafted_BK[:, None].expand(-1, size, -1)
        seen_BKM = seen_BM[:, None].repeat(1, size, 1).scatter_(2, index_BKK, ancestry_BKK)
        entry_BK = torch.where(places_BK < 0, -1, drafted_BK)
        hidden_BKD = self.memory.append(self._vectors(items_BK), entry_BK, base_B1 + depths_BK, seen_BKM)
        return self._scores(hidden_BKD, self.trail.draft(items_BK, ancestry_BKK))

    def settle(self, paths: Sequence[Sequence[int]]) -> None:
        """Keep these nodes of each row's last tree, in this order, as its next ranks; discard the others."""
        moves = [
            [(length + node, length + k) for k, node in enumerate(path) if node != k]
            for length, path in zip(self.lengths, paths, strict=True)
        ]
        if size := max(map(len, moves)):
            padded = [row + [(-1, -1)] * (size - len(row)) for row in moves]
            from_BK, to_BK = self._on_device(padded).unbind(2)
            self.memory.move(from_BK, to_BK)
        self.trail.settle(paths)
        self.lengths = [length + len(path) for length, path in zip(self.lengths, paths, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows only."""
        if len(rows) < len(self.lengths):
            index = self._on_device(rows)
            self.memory.keep(index)
            self.trail.keep(index)
            self.projected_BND, self.vectors_BNE = self.projected_BND[index], self.vectors_BNE[index]
            self.query_BE = None if self.query_BE is None else self.query_BE[index]
            self.lengths = [self.lengths[row] for row in rows]

    def check(self) -> None:
        """Raise `BadInput` if a score overflowed."""
        if not bool(self._finite):
            remedy = "run it in float32 or bfloat16, or check its weights"
            raise BadInput("the model's scores are not finite", remedy=remedy)

    def _vectors(self, chosen_BK: Tensor) -> Tensor:
        index_BKD = chosen_BK[..., None].expand(-1, -1, self.projected_BND.shape[2])
        return self.model.as_tokens(self.projected_BND.gather(1, index_BKD)).to(self._dtype)

    def _scores(self, hidden_BKD: Tensor, origin: Origin | None) -> Tensor:
        scores_BKN = self.model.score(hidden_BKD, self.projected_BND, self.vectors_BNE, self.query_BE, origin)
        self._finite &= scores_BKN.isfinite().all()
        return scores_BKN

    def _on_device(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, device=self.vectors_BNE.device)
