"""A control: what a ranking must lose when passages are shown with each other's vectors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from perank.records import Candidates, Passage, Ranker, Ranking


class ShuffledVectors:
    """A ranker that is shown each query's passages in disguise: passage i with the vector of passage pi(i).

    Whatever it still knows comes from the query, the number of candidates, or chance. Deterministic by query id.
    """

    def __init__(self, ranker: Ranker, *, seed: int = 0) -> None:
        self.ranker, self.seed = ranker, seed

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """The order found for the disguised passages, applied to the true ones."""
        disguised = [replace(candidates, passages=self._shuffled(candidates)) for candidates in batch]
        ranked = self.ranker.rank_batch(disguised)
        return [replace(found, candidates=true) for found, true in zip(ranked, batch, strict=True)]

    def _shuffled(self, candidates: Candidates) -> tuple[Passage, ...]:
        passages = list(candidates.passages)
        random.Random(f"{self.seed}:{candidates.query.id}").shuffle(passages)
        return tuple(passages)
