"""Algorithm 1's ranking in fewer forwards: draft the rest of the ranking as a tree, verify it in one forward.

A draft costs tokens, not forwards. The LLM's scores after each drafted rank give greedy decoding's next candidate; the
longest matching path is accepted, the first mismatch is corrected by the same scores, and the rest is drafted again.
Rows of a batch advance by different amounts and leave the batch when they are finished.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from perank.errors import BadInput
from perank.model import PERank
from perank.ranking.decoder import Clock, Decoded, WindowBatch
from perank.ranking.draft_tree import Tree, draft_tree
from perank.ranking.reader import Reader

# The temperature of a draft is relative to the standard deviation of the scores' changes between ranks ...
_TEMPERATURE = 0.5
_FIRST_TEMPERATURE = 0.2  # ... or of the scores themselves, before any change has been observed
_LATEST_CHANGE = 0.5  # weight of the latest change in the moving average of the changes


class Speculative:
    """Greedy decoding by draft and verification; orders equal `Constrained`'s up to rounding at small margins.

    `nodes` is the number of tokens drafted per row and forward: more tokens, fewer forwards. None chooses the fastest
    for the number of rows still running; then a row's forwards depend on the rest of the batch.
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
            read = zip(reader.lengths, windows.starts, strict=True)
            for row, scores_N, (stop, start) in zip(rows, scores_BN.double().cpu().numpy(), read, strict=True):
                row.start(scores_N, stop - start)
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
            first_scores=[row.first for row in rows],
        )


def _most_nodes(device: torch.device, rows: int = 1) -> int:
    """Draft tokens per row whose cost is negligible compared to reading the weights once.

    On a CPU: measured with 6 layers of SmolLM2-135M in batches of 1, 4, 16 and 64.
    """
    most, together = (12, 64) if device.type == "cpu" else (64, 1024)
    return max(1, min(most, together // rows))


class _Row:
    """One window: `ranked` is decided, open candidates are sorted by the scores after it, ties by position."""

    def __init__(self, there_N: Sequence[bool], steps: int) -> None:
        self.steps, self.open_N = steps, np.array(there_N)
        self.ranked: list[int] = []
        self.left = np.flatnonzero(self.open_N)
        self.scores_N = np.zeros(len(self.open_N))
        self.change: float | None = None
        self.margins: list[float] = []
        self.forwards = self.processed = 0
        self.first: tuple[float, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The current ranking."""
        return (*self.ranked, *self.left.tolist())

    @property
    def unfinished(self) -> bool:
        """Whether requested ranks are still undecided."""
        return len(self.margins) < self.steps

    def start(self, scores_N: np.ndarray, tokens: int) -> None:
        """Decide the first rank by the scores after the prompt."""
        if self.steps:
            self._count(tokens)
            self._see(scores_N)
            self.first = tuple(scores_N[self.open_N].tolist())

    def draft(self, nodes: int) -> Tree:
        """Draft the most probable continuations, up to the requested ranks."""
        best = self.left[: nodes + 1]
        depth = self.steps - len(self.margins)
        if self.change is None:
            temperature = _FIRST_TEMPERATURE * float(self.scores_N[self.left].std())
        else:
            temperature = _TEMPERATURE * self.change
        scores = self.scores_N[best].tolist()
        return draft_tree(scores, best.tolist(), nodes=nodes, depth=depth, temperature=temperature)

    def take(self, tree: Tree, scores_KN: np.ndarray) -> list[int]:
        """Return the tree's nodes that greedy decoding accepts, from the root on, and record the ranks they decide."""
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
        """Decide the next rank and order the rest by these scores."""
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
