"""The `relevance_score` of responses, which both forms define as a number from 0 to 1, higher for more relevant.

A calibrated model gives probabilities of relevance. PE-Rank itself ranks without scoring: without a calibration the
score is a function of the rank alone, which sorts as the ranking does but isn't a probability; a threshold on it only
cuts at a rank. `score_kind` in every response says which of the two it is.
"""

from __future__ import annotations

from perank.records import Ranking, rank_scores


def score_kind(ranking: Ranking) -> str:
    """`probability` for a calibrated model, else `rank`."""
    return "probability" if ranking.calibrated else "rank"


def relevance_scores(ranking: Ranking) -> list[float]:
    """Scores in the order of the ranking, in [0, 1]: probabilities, or those of `rank_scores`."""
    return [*ranking.probabilities] or rank_scores(len(ranking.order))
