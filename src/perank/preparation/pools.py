"""Sources of a training row's candidates: the top of a first-stage run, or a sample of a retriever's deep ranking.

The paper uses the dense top 20 (`TopK`). Training on hard candidates alone is slow at first; `LogUniform` draws ranks
log-uniformly, so half of them are above the geometric mean.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Protocol

from perank.records import Run, rank_order


class Pool(Protocol):
    """Draws distinct candidates for a query, fewer than configured if there are not enough."""

    def draw(self, query_id: str, positives: Sequence[str], rng: random.Random) -> list[str]:
        """Return passage ids in no particular order."""
        ...


class TopK:
    """The top n of a run, as in reranking; positives that the run misses are not added."""

    def __init__(self, run: Run, n: int = 20) -> None:
        self.run, self.n = run, n

    def draw(self, query_id: str, positives: Sequence[str], rng: random.Random) -> list[str]:
        return rank_order(self.run.get(query_id, {}))[: self.n]


class LogUniform:
    """One positive and n - 1 passages at log-uniform ranks of a deep run."""

    def __init__(self, run: Run, n: int = 20) -> None:
        self.ranked = {query: rank_order(scores) for query, scores in run.items()}
        self.n = n

    def draw(self, query_id: str, positives: Sequence[str], rng: random.Random) -> list[str]:
        ranked = self.ranked.get(query_id, [])
        drawn = dict.fromkeys(rng.sample(sorted(positives), min(1, len(positives))))
        reachable = len(drawn.keys() | set(ranked))
        while len(drawn) < min(self.n, reachable):
            drawn[ranked[int(math.exp(rng.random() * math.log(len(ranked) + 1))) - 1]] = None
        return list(drawn)
