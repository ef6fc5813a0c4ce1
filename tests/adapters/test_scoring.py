from __future__ import annotations

import pytest

from adapters.conftest import QUERY, TEXTS
from perank import Reranker
from perank.adapters.scoring import ranked, scores_by_position
from perank.errors import BadInput
from perank.records import Passage, Ranking, rank_scores
from support import tiny


def test_scores_decrease_strictly_between_1_and_0_and_sort_as_the_ranking() -> None:
    ranking = Ranking(tiny.FIVE, (3, 1, 4, 0, 2))
    scores = rank_scores(len(ranking.order))
    assert 1 > scores[0] > scores[1] > scores[2] > scores[3] > scores[4] > 0
    by_position = scores_by_position(ranking)
    assert sorted(range(5), key=lambda i: -by_position[i]) == [3, 1, 4, 0, 2]


def test_the_first_k_are_those_of_the_whole_ranking(reranker: Reranker, order: list[int]) -> None:
    passages = [Passage(str(i), text) for i, text in enumerate(TEXTS)]
    assert [i for i, _ in ranked(reranker, QUERY, passages)] == order
    assert ranked(reranker, QUERY, passages, 2) == ranked(reranker, QUERY, passages)[:2]
    assert ranked(reranker, QUERY, []) == []
    with pytest.raises(BadInput):
        ranked(reranker, QUERY, passages, 0)


def test_any_ranker_will_do() -> None:
    class Backwards:
        def rank_batch(self, batch):  # type: ignore[no-untyped-def]
            return [Ranking(candidates, tuple(reversed(range(len(candidates))))) for candidates in batch]

    assert [i for i, _ in ranked(Backwards(), QUERY, tiny.PASSAGES, 3)] == [4, 3, 2]
