"""A ranking's scores: the model's before each window's first rank, never increasing; probabilities; thresholds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perank import Reranker
from perank.errors import BadInput
from perank.ranking.constrained import Constrained, SinglePass
from perank.ranking.decoder import Decoder, never_increasing
from perank.ranking.reader import Reader
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from perank.ranking.windows import Windows
from perank.saving.calibration import Calibration
from support import tiny

LINEAR = Calibration(scores=(-1000.0, 1000.0), probabilities=(0.0, 1.0), fitted_on="nothing", queries=1, candidates=1)


def reranker(**options: Any) -> Reranker:
    return Reranker(tiny.tiny_model(), tiny.tiny_prompts(), **options)


@pytest.mark.parametrize("decoder", [Constrained(), Speculative(), Static(), SinglePass()])
def test_every_decoder_returns_the_scores_before_the_first_rank(decoder: Decoder) -> None:
    model, windows = tiny.tiny_model(), tiny.windows([5, 9, 2])
    expected_BN = Reader(model, windows, ranks=1).read()
    scores = decoder.decode(model, windows).first_scores
    assert [len(row) for row in scores] == [5, 9, 2]
    for row, expected_N in zip(scores, expected_BN, strict=True):
        np.testing.assert_allclose(row, expected_N[: len(row)], rtol=1e-9)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30))
def test_scores_never_increase_and_ordered_ones_stay(values: list[float]) -> None:
    smooth = never_increasing(np.array(values))
    assert all(a >= b for a, b in pairwise(smooth))
    assert min(values) <= smooth[-1] and smooth[0] <= max(values)
    ordered = sorted(values, reverse=True)
    assert never_increasing(np.array(ordered)) == pytest.approx(ordered)


def test_a_candidate_has_the_score_of_its_last_window() -> None:
    ranker, vectors_NE = reranker(windows=Windows(4, 2)), tiny.unit_vectors(6, 8)
    ranking = ranker.rank("otter holds hands", passage_embeddings=vectors_NE)
    lower = ranker.rank("otter holds hands", passage_embeddings=vectors_NE[2:])  # the first window to run
    upper = [0, 1, *(2 + i for i in lower.order[:2])]
    last = ranker.rank("otter holds hands", passage_embeddings=vectors_NE[upper])
    known = {
        2 + position: score
        for position, score in zip(lower.order, raw_scores(ranker, vectors_NE[2:], lower.order), strict=True)
    }
    known |= dict(zip([upper[i] for i in last.order], raw_scores(ranker, vectors_NE[upper], last.order), strict=True))
    assert ranking.order[:4] == tuple(upper[i] for i in last.order)
    assert ranking.raw == pytest.approx(never_increasing(np.array([known[i] for i in ranking.order])))


def raw_scores(ranker: Reranker, vectors_NE: torch.Tensor, order: tuple[int, ...]) -> list[float]:
    """Scores before the first rank of one window, best first."""
    from perank.ranking.decoder import Window, WindowBatch

    prompt = ranker.prompts.rank("otter holds hands", len(vectors_NE))
    batch = WindowBatch.of([Window(prompt, vectors_NE, len(vectors_NE))])
    scores_N = Reader(ranker.model, batch, ranks=1).read()[0]
    return scores_N[list(order)].tolist()


def test_without_calibration_scores_are_reciprocal_ranks_and_say_so() -> None:
    ranking = reranker().rank("otter", passage_embeddings=tiny.unit_vectors(3, 8))
    assert not ranking.calibrated and ranking.scores == (1.0, 1 / 2, 1 / 3)
    with pytest.raises(BadInput, match="a threshold needs a calibrated model"):
        reranker().rank("otter", passage_embeddings=tiny.unit_vectors(3, 8), threshold=0.5)


@pytest.mark.parametrize("n", [1, 2, 7, 25])
def test_calibrated_scores_are_probabilities_that_never_increase(n: int) -> None:
    ranking = reranker(calibration=LINEAR).rank("otter", passage_embeddings=tiny.unit_vectors(n, 8))
    assert ranking.calibrated and len(ranking.scores) == n
    assert all(1 >= a >= b >= 0 for a, b in pairwise(ranking.scores))
    assert ranking.scores == pytest.approx([0.5 + score / 2000 for score in ranking.raw])


def test_a_calibration_changes_no_order() -> None:
    vectors_NE = tiny.unit_vectors(30, 8)
    plain, calibrated = (
        r.rank("sea", passage_embeddings=vectors_NE) for r in (reranker(), reranker(calibration=LINEAR))
    )
    assert plain.order == calibrated.order and plain.raw == calibrated.raw


def test_a_threshold_leaves_out_improbable_documents_and_results_have_them_whole() -> None:
    documents = [{"id": f"d{i}", "text": "", "year": 2000 + i} for i in range(6)]
    ranker, vectors_NE = reranker(calibration=LINEAR), tiny.unit_vectors(6, 8)
    whole = ranker.rank("sea", documents, passage_embeddings=vectors_NE)
    cut = ranker.rank("sea", documents, passage_embeddings=vectors_NE, threshold=whole.scores[2])
    kept = sum(score >= whole.scores[2] for score in whole.scores)
    assert 3 <= kept < 6 and len(cut) == kept and cut.documents == whole.documents[:kept]
    assert [result.document["year"] for result in cut] == [2000 + i for i in whole.order[:kept]]
    assert cut[0] == (1, whole.scores[0], documents[whole.order[0]]) and [r.rank for r in cut[1:3]] == [2, 3]
    assert cut.passage_ids == whole.passage_ids[:kept]
    assert len(ranker.rank("sea", documents, passage_embeddings=vectors_NE, threshold=1.1)) == 0
    assert len(ranker.rank("sea", [], threshold=0.5)) == 0


def test_candidates_that_no_window_reaches_have_the_lowest_score() -> None:
    ranking = reranker(windows=Windows(4, 4)).rank("sea", passage_embeddings=tiny.unit_vectors(12, 8), top_k=2)
    assert len(ranking.raw) == 12 and np.isfinite(ranking.raw).all()
    assert len(set(ranking.raw[4:])) == 1
