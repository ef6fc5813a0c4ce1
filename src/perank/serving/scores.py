"""The `relevance_score` of responses, which both forms define as a number from 0 to 1, higher for more relevant.

PE-Rank ranks without scoring. Until a model has calibrated scores, the score is a function of the rank alone: it sorts
as the ranking does, but it isn't a probability, and thresholds on it only cut at a rank. `SCORE_KIND` in every response
says so. Another score replaces both.
"""

from __future__ import annotations

from perank.records import Ranking

SCORE_KIND = "rank"


def relevance_scores(ranking: Ranking) -> list[float]:
    """Scores in the order of the ranking, strictly decreasing, in (0, 1): 1 - rank / (N + 1) for ranks 1 to N."""
    n = len(ranking.order)
    return [1 - rank / (n + 1) for rank in range(1, n + 1)]
