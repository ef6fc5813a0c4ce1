"""What all adapters share: the default ranker, and rankings as (position, score) pairs."""

from __future__ import annotations

from collections.abc import Sequence

from perank.ranking.reranker import Reranker
from perank.records import Candidates, Passage, Query, Ranker, Ranking, rank_scores


def ranker_or_default(ranker: Ranker | None) -> Ranker:
    """Return `ranker`, or the packaged model if it is None."""
    return Reranker() if ranker is None else ranker


def scores_by_position(ranking: Ranking) -> list[float]:
    """The scores of `rank_scores` in the order of the candidates."""
    pairs = sorted(zip(ranking.order, rank_scores(len(ranking.order)), strict=True))
    return [score for _, score in pairs]


def ranked(
    ranker: Ranker, query: str, passages: Sequence[Passage], top_k: int | None = None
) -> list[tuple[int, float]]:
    """Rank the passages of one query; return (position, score), best first, `top_k` of them or all.

    PE-Rank decodes only the ranks that are returned.
    """
    if not passages:
        return []
    if isinstance(ranker, Reranker):
        ranking = ranker.rank(query, passages, top_k=top_k)
    else:
        ranking = ranker.rank_batch([Candidates(Query("", query), tuple(passages))])[0]
    return list(zip(ranking.order, rank_scores(len(ranking.order)), strict=True))[:top_k]
