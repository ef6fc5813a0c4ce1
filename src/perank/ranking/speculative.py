"""Algorithm 1's ranking in fewer forwards: draft the rest of the ranking as a tree, check it in one forward.

A draft costs tokens, not forwards. Behind each drafted rank the LLM's scores say which candidate greedy decoding
takes next; the longest path that agrees is kept, the first disagreement is corrected by the same scores, and the rest
is drafted again. Rows of a batch advance by different amounts, and leave when they are done.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from perank.errors import BadInput
from perank.model.pe_rank import PERank
from perank.ranking.decoder import Clock, Decoded, WindowBatch
from perank.ranking.draft_tree import Tree, draft_tree
from perank.ranking.reader import Reader

# The temperature of a draft, relative to the deviation of how much the scores change from one rank to the next ...
_TEMPERATURE = 0.5
_FIRST_TEMPERATURE = 0.2  # ... or to the scores' own, as long as no change has been seen
_LATEST_CHANGE = 0.5  # weight of the latest change in the moving average of the changes


class Speculative:
    """Greedy decoding by draft and check; the orders of `Constrained`, but for rounding where margins are small.

    `nodes` is how many tokens a row drafts for one forward: more mean fewer forwards and more tokens. None: what is
    fastest for the number of rows still running; then a row's forwards depend on the rest of the batch.
    """

    def __init__(self, nodes: int | None = None) -> None:
        if nodes is not None and nodes < 1:
            raise BadInput(f"drafts of {nodes} tokens", remedy="give 1 or more, or null")
        self.nodes = nodes

    @torch.no_grad()
    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises what `Constrained.decode` raises."""
        rows = [_Row(*row) for row in zip(windows.candidates_BN.tolist(), windows.steps, strict=True)]
        device = windows.vectors_BNE.device
        clock, prefilled = Clock(device), 0.0
        if ranks := max(windows.steps, default=0):
            reader = Reader(model, windows, ranks=ranks - 1, nodes=self.nodes or _most_nodes(device))
            scores_BN = reader.read()
            prefilled = clock.lap()
            for row, scores_N, length in zip(rows, scores_BN.double().cpu().numpy(), reader.lengths, strict=True):
                row.start(scores_N, length)
            running = rows
            while kept := [b for b, row in enumerate(running) if row.unfinished]:
                reader.keep(kept)
                running = [running[b] for b in kept]
                nodes = self.nodes or _most_nodes(device, len(running))
                trees = [row.draft(nodes) for row in running]
                scores_BKN = reader.feed_trees(trees).double().cpu().numpy()
                reader.settle(
                    [row.take(tree, scores) for row, tree, scores in zip(running, trees, scores_BKN, strict=True)]
                )
            reader.check()
        return Decoded(
            orders=[row.order for row in rows],
            forwards=[row.forwards for row in rows],
            tokens_processed=[row.processed for row in rows],
            tokens_generated=windows.depths,
            margins=[tuple(row.margins) for row in rows],
            seconds_prefill=prefilled,
            seconds_decode=clock.lap(),
        )


def _most_nodes(device: torch.device, rows: int = 1) -> int:
    """Tokens that cost next to nothing compared to reading the weights once, shared by the rows.

    On a CPU: measured with 6 layers of SmolLM2-135M in batches of 1, 4, 16 and 64.
    """
    most, together = (12, 64) if device.type == "cpu" else (64, 1024)
    return max(1, min(most, together // rows))


class _Row:
    """One window: `ranked` is decided, the open candidates follow the scores behind it, ties by position."""

    def __init__(self, there_N: Sequence[bool], steps: int) -> None:
        self.steps, self.open_N = steps, np.array(there_N)
        self.ranked: list[int] = []
        self.left = np.flatnonzero(self.open_N)
        self.scores_N = np.zeros(len(self.open_N))
        self.change: float | None = None
        self.margins: list[float] = []
        self.forwards = self.processed = 0

    @property
    def order(self) -> tuple[int, ...]:
        """The ranking as far as it is known."""
        return (*self.ranked, *self.left.tolist())

    @property
    def unfinished(self) -> bool:
        """Whether ranks that were asked for are still undecided."""
        return len(self.margins) < self.steps

    def start(self, scores_N: np.ndarray, tokens: int) -> None:
        """The prompt's scores decide the first rank."""
        if self.steps:
            self._count(tokens)
            self._see(scores_N)

    def draft(self, nodes: int) -> Tree:
        """The most probable continuations, as deep as ranks are asked for."""
        best = self.left[: nodes + 1]
        depth = self.steps - len(self.margins)
        if self.change is None:
            temperature = _FIRST_TEMPERATURE * float(self.scores_N[self.left].std())
        else:
            temperature = _TEMPERATURE * self.change
        scores = self.scores_N[best].tolist()
        return draft_tree(scores, best.tolist(), nodes=nodes, depth=depth, temperature=temperature)

    def take(self, tree: Tree, scores_KN: np.ndarray) -> list[int]:
        """The tree's nodes that greedy decoding takes, from the root on; the ranks they decide are decided."""
        self._count(len(tree))
        path: list[int] = []
        node: int | None = 0
        while node is not None:
            path.append(node)
            self.ranked.append(tree.items[node])
            self.open_N[tree.items[node]] = False
            self._see(scores_KN[node])
            node = tree.child(node, int(self.left[0])) if self.unfinished else None
        return path

    def _see(self, scores_N: np.ndarray) -> None:
        """These scores decide the next rank; they order the rest."""
        positions = np.flatnonzero(self.open_N)
        if self.ranked:
            change = float((scores_N - self.scores_N)[positions].std())
            self.change = change if self.change is None else self.change + _LATEST_CHANGE * (change - self.change)
        self.scores_N, self.left = scores_N, positions[np.argsort(-scores_N[positions], kind="stable")]
        first, second = scores_N[self.left[:2]].tolist()
        self.margins.append(first - second)

    def _count(self, tokens: int) -> None:
        self.forwards += 1
        self.processed += tokens
