"""A draft of the rest of a ranking as a tree: continuations share their common prefix. No torch.

Greedy decoding nearly follows the order of the last scores; the changes of the scores between ranks measure the
uncertainty, which grows with every rank. As a Plackett-Luce model, scores / temperature give each continuation a
probability, and the tree contains the most probable ones, which maximises the expected number of accepted ranks for a
number of tokens. On a trained model, a tree of 16 tokens needs fewer forwards than one sorted draft of all 18 remaining
ranks.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_TEMPERATURE_GROWTH = 0.1  # relative growth of the temperature per rank


@dataclass(slots=True)
class Tree:
    """Node k ranks candidate `items[k]` after node `parents[k]`, at depth `depths[k]`. Node 0 is the root."""

    items: list[int]
    parents: list[int] = field(default_factory=lambda: [-1])
    depths: list[int] = field(default_factory=lambda: [0])

    def __len__(self) -> int:
        return len(self.items)

    def add(self, parent: int, item: int) -> int:
        """Add a node and return its index."""
        self.items.append(item)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1)
        return len(self.items) - 1

    def ancestry(self) -> np.ndarray:
        """[K, K] bool: row k marks node k and its ancestors."""
        seen_KK = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents[1:], start=1):
            seen_KK[node] |= seen_KK[parent]
        return seen_KK

    def child(self, node: int, item: int) -> int | None:
        """The node that ranks `item` after `node`, or None."""
        for k in range(node + 1, len(self)):
            if self.parents[k] == node and self.items[k] == item:
                return k
        return None


def draft_tree(
    scores: Sequence[float], candidates: Sequence[int], *, nodes: int, depth: int, temperature: float
) -> Tree:
    """Build a tree of at most `nodes` nodes and `depth` ranks from the candidates' `scores`, best first.

    The root is the best candidate, which is certain. Nodes are added by probability (best-first search with only the
    next best child of each node in the queue). `temperature` is that of the next rank; 0 drafts only the sorted scores.
    """
    scores = scores[: nodes + 1]  # a tree can't contain more: a candidate enters after all better ones
    tree, used, costs = Tree([candidates[0]]), [1], [0.0]
    weights = [_weights(scores, temperature)]
    waiting: list[tuple[float, int, int]] = []

    def offer(parent: int, place: int) -> None:
        """Add the best child of `parent` from `place` on to the queue."""
        taken, level = used[parent], tree.depths[parent]
        while taken >> place & 1:
            place += 1
        if place < len(scores) and level + 1 < depth:
            if level == len(weights):
                weights.append(_weights(scores, temperature * (1 + _TEMPERATURE_GROWTH * level)))
            left = sum(weight for i, weight in enumerate(weights[level]) if not taken >> i & 1)
            share = max(weights[level][place], 1e-300) / max(left, 1e-300)
            heapq.heappush(waiting, (costs[parent] - math.log(share), parent, place))

    offer(0, 1)
    while waiting and len(tree) < nodes:
        cost, parent, place = heapq.heappop(waiting)
        child = tree.add(parent, candidates[place])
        used.append(used[parent] | 1 << place)
        costs.append(cost)
        offer(child, 1)
        offer(parent, place + 1)
    return tree


def _weights(scores: Sequence[float], temperature: float) -> list[float]:
    """exp(score / temperature), relative to the best, bounded to avoid underflow."""
    temperature = max(temperature, (scores[0] - scores[-1]) / 600, 1e-9)
    return [math.exp((s - scores[0]) / temperature) for s in scores]
