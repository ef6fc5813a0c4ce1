"""Calibration: fitted on judged candidates, measured by the expected calibration error."""

from __future__ import annotations

import numpy as np
import pytest

from perank.errors import BadInput
from perank.evaluation.calibration import Judged, fitted_points, reliability

QRELS = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"a": 1}}


def drawn(n: int, seed: int = 0) -> Judged:
    """Scores s with relevance drawn with probability 1 / (1 + exp(-s))."""
    noise = np.random.default_rng(seed)
    scores_P = noise.normal(scale=2, size=n)
    return Judged(scores_P, (noise.random(n) < 1 / (1 + np.exp(-scores_P))).astype(float), 1)


def test_unjudged_candidates_are_not_relevant_and_unjudged_queries_dont_count() -> None:
    scores = {"q1": {"a": 3.0, "b": 2.0, "z": 1.0}, "q2": {"c": 0.5}, "q9": {"a": 9.0}}
    judged = Judged.of(scores, QRELS, binary_cutoff=2)
    assert judged.scores_P.tolist() == [3.0, 2.0, 1.0, 0.5]
    assert judged.relevant_P.tolist() == [1.0, 0.0, 0.0, 0.0] and judged.queries == 2


def test_the_fit_finds_the_probabilities_and_lowers_the_error_on_other_candidates() -> None:
    scores, probabilities = fitted_points([drawn(4000), drawn(4000, seed=1)])
    assert (np.diff(scores) >= 0).all() and (np.diff(probabilities) >= 0).all()
    held_out = drawn(8000, seed=2)
    calibrated = Judged(np.interp(held_out.scores_P, scores, probabilities), held_out.relevant_P, 1)
    ranks = Judged(np.full(8000, 0.9), held_out.relevant_P, 1)
    assert reliability(calibrated).error < 0.02 < 0.3 < reliability(ranks).error


def test_the_error_is_the_mean_distance_of_bins_weighted_by_candidates() -> None:
    judged = Judged(np.array([0.9, 0.9, 0.9, 0.1]), np.array([1.0, 1.0, 0.0, 0.0]), 1)
    found = reliability(judged)
    assert found.error == pytest.approx(3 / 4 * (0.9 - 2 / 3) + 1 / 4 * 0.1)
    assert [count for _, _, count in found.bins] == [1, 3]


def test_candidates_of_one_kind_are_refused() -> None:
    with pytest.raises(BadInput, match="0 of 0 scored candidates"):
        fitted_points([])
    with pytest.raises(BadInput, match="0 of 5 scored candidates"):
        fitted_points([Judged(np.arange(5.0), np.zeros(5), 1)])
