"""Fitted weights: the likelihoods by plain loops, weights that made the judgements, and what can't be fitted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from perank.baselines.encoder_ranker import CandidateVectors
from perank.baselines.fusion import Fusion
from perank.baselines.fusion_fit import LIKELIHOODS, FittedFusion, described, first_pick, fitted_weights, list_mle
from perank.errors import BadInput
from support.fake_encoders import HashEncoder
from support.small_suite import SmallCollection, small_suite

SCORES = torch.tensor([[1.0, -0.5, 2.0, 0.0], [0.3, 0.7, -torch.inf, -torch.inf]], dtype=torch.float64)
GRADES = torch.tensor([[0.0, 1.0, 2.0, 1.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


def log_share(scores: list[float], i: int) -> float:
    return scores[i] - math.log(sum(map(math.exp, scores)))


def test_the_first_pick_is_relevant_in_proportion_to_grades() -> None:
    first, second = SCORES[0].tolist(), SCORES[1, :2].tolist()
    expected = [(log_share(first, 1) + 2 * log_share(first, 2) + log_share(first, 3)) / 4, log_share(second, 0)]
    assert first_pick(SCORES, GRADES).tolist() == pytest.approx(expected)


def test_lists_are_picked_grade_by_grade_and_equal_grades_do_not_compete() -> None:
    a, b, c, d = SCORES[0].tolist()
    expected = [(log_share([a, b, c, d], 2) + log_share([a, b], 1) + log_share([a, d], 1)) / 3]
    assert list_mle(SCORES, GRADES)[:1].tolist() == pytest.approx(expected)
    assert list_mle(SCORES, GRADES)[1].item() == pytest.approx(log_share(SCORES[1, :2].tolist(), 0))


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_weights_that_drew_the_picks_are_found_again(likelihood: str) -> None:
    random, weights = np.random.default_rng(0), np.array([2.0, -1.0, 0.0])
    features, grades = [], []
    for size in random.integers(3, 9, 4000):
        found = random.standard_normal((size, 3)) * [1.0, 0.1, 5.0]
        shares = np.exp(found @ weights)
        features.append(found)
        picked = random.choice(size, p=shares / shares.sum())
        grades.append([int(i == picked) for i in range(size)])
    first, second, third = fitted_weights(features, grades, likelihood)
    assert (first, second) == pytest.approx((2.0, -1.0), abs=0.35)
    assert third == pytest.approx(0.0, abs=0.02)


def test_a_fusion_is_fitted_on_a_suite_and_prefers_what_is_judged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    collection = SmallCollection(qrels={"q1": {"p1": 1}, "q2": {"p5": 1, "p4": 1}, "q3": {"p9": 1}})
    suite, vectors = small_suite(collection=collection), CandidateVectors(HashEncoder())
    fusion = FittedFusion(judged=suite, features=["log_rank"], shape=Fusion(smoothing=0.1, first=2)).fit(vectors)
    assert (fusion.cosine, fusion.smoothing, fusion.first) == (0.0, 0.1, 2)
    assert fusion.log_rank > 1  # the first stage is always right here
    assert "log_rank: fitted on 2 queries of small" in caplog.text


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"features": ["cosin"]}, "can't fit the features"),
        ({"features": []}, "can't fit the features"),
        ({"features": ["text"]}, "can't fit the features"),
        ({"features": ["cosine", "log_rank", "cosine"]}, "'cosine' occurs twice"),
        ({"likelihood": "hinge"}, "unknown likelihood 'hinge'"),
    ],
    ids=str,
)
def test_what_cannot_be_fitted_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        FittedFusion(judged=small_suite(), **settings)


def test_queries_without_relevant_candidates_are_refused() -> None:
    suite = small_suite(collection=SmallCollection(qrels={"q3": {"p5": 1, "p1": 0}}))
    with pytest.raises(BadInput, match="no query has a relevant candidate"):
        FittedFusion(judged=suite).fit(CandidateVectors(HashEncoder()))


def test_weights_are_written_as_a_sum() -> None:
    assert described({"cosine": 15.2931, "log_rank": 0.712, "text": 0.0}) == "15.29 cosine + 0.712 log_rank"
