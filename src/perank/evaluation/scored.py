"""The scores of one ranking, as an evaluation keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perank.records import Ranking


@dataclass(frozen=True, slots=True)
class Scored:
    """Passage ids of one ranking, best first, with `Ranking.raw` and `Ranking.probabilities` (empty without)."""

    ids: Sequence[str]
    raw_scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    @classmethod
    def of(cls, ranking: Ranking) -> Scored:
        """Take them from a ranking."""
        return cls(ranking.passage_ids, ranking.raw, ranking.probabilities)

    @property
    def calibrated(self) -> bool:
        """Whether the scores are probabilities."""
        return bool(self.probabilities)

    @property
    def raw(self) -> dict[str, float]:
        """Passage id -> the model's score; {} without."""
        return dict(zip(self.ids, self.raw_scores, strict=False))

    @property
    def scores(self) -> dict[str, float]:
        """Passage id -> score as in `Ranking.scores`."""
        return dict(zip(self.ids, self.probabilities, strict=True)) if self.calibrated else self.reciprocal_ranks

    @property
    def reciprocal_ranks(self) -> dict[str, float]:
        """Passage id -> 1 / rank."""
        return {id: 1 / rank for rank, id in enumerate(self.ids, start=1)}
