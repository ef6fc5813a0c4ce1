"""Fusions: sums written down by hand, feedback and neighbours by plain loops, and vectors that are encoded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.baselines.encoder_ranker import CandidateVectors, EncoderRanker
from perank.baselines.fusion import Evidence, Fusion, FusionRanker, ReciprocalRankFusion, z_scores
from perank.errors import BadInput
from perank.records import Bill, Candidates, Passage, Query
from support.fake_encoders import HashEncoder


def candidates(n: int, query: str = "q", scores: Sequence[float] = ()) -> Candidates:
    passages = tuple(Passage(f"p{i}", f"text {query} {i}") for i in range(n))
    return Candidates(Query(query, f"words of {query}"), passages, tuple(scores))


def evidence(n: int = 6, **more: Any) -> Evidence:
    vectors = np.random.default_rng(n).standard_normal((n + 1, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Evidence(vectors[0], vectors[1:], np.arange(n), **more)


def test_by_default_it_is_the_cosine_less_the_log_of_the_rank() -> None:
    known = evidence()
    expected = [
        float(known.query_E.astype(float) @ vector.astype(float)) - 0.05 * math.log(1 + rank)
        for rank, vector in enumerate(known.vectors_NE)
    ]
    assert Fusion().scores(known) == pytest.approx(expected, abs=1e-6)


def test_feedback_and_rocchio_use_the_first_passages_of_the_first_stage() -> None:
    known = evidence()
    turned = Evidence(known.query_E, known.vectors_NE, known.ranks_N[::-1].copy())  # the last is the first stage's best
    mean = known.vectors_NE[-2:].astype(float).mean(axis=0)
    feedback = Fusion(cosine=0, log_rank=0, feedback=2.0, first=2).scores(turned)
    assert feedback == pytest.approx(2 * known.vectors_NE @ mean / np.linalg.norm(mean), abs=1e-6)
    moved = known.query_E + 0.3 * mean
    rocchio = Fusion(log_rank=0, rocchio=0.3, first=2).scores(turned)
    assert rocchio == pytest.approx(known.vectors_NE @ moved / np.linalg.norm(moved), abs=1e-6)


def test_smoothing_mixes_a_score_with_those_of_its_nearest() -> None:
    known, plain = evidence(), Fusion().scores(evidence())
    cosines = known.vectors_NE @ known.vectors_NE.T
    expected = []
    for i in range(6):
        nearest = sorted((j for j in range(6) if j != i), key=lambda j: -cosines[i, j])[:2]
        expected.append(0.7 * plain[i] + 0.3 * (plain[nearest[0]] + plain[nearest[1]]) / 2)
    assert Fusion(smoothing=0.3, neighbours=2).scores(known) == pytest.approx(expected)
    alone = evidence(1)
    assert Fusion(smoothing=0.3).scores(alone) == pytest.approx(Fusion().scores(alone))


def test_scores_of_the_first_stage_and_of_texts_count_as_z_scores() -> None:
    texts, firsts = np.array([1.0, 5.0, 3.0]), np.array([9.0, 8.0, 1.0])
    known = evidence(3, first_stage_N=firsts, text_N=texts)
    fusion = Fusion(cosine=0.5, log_rank=0, text=0.5, scorer=Lengths(), standardised=True)
    cosines = known.vectors_NE.astype(float) @ known.query_E.astype(float)
    assert fusion.scores(known) == pytest.approx(0.5 * z_scores(cosines) + 0.5 * z_scores(texts), abs=1e-5)
    assert Fusion(cosine=0, log_rank=0, first_stage=2.0).scores(known) == pytest.approx(2 * z_scores(firsts))
    assert z_scores(np.array([2.0, 4.0])).tolist() == [-1.0, 1.0]  # the population's deviation
    assert z_scores(np.full(3, 0.3)).tolist() == [0.0, 0.0, 0.0]


class Lengths:
    """Scores by the length of the id; each text is a forward."""

    identity = {"name": "lengths"}  # noqa: RUF012

    def scored(self, batch: Sequence[Candidates]) -> list[tuple[np.ndarray, Bill]]:
        return [(np.array([len(p.id) for p in found.passages]), Bill(forwards=len(found))) for found in batch]


def test_a_text_ranker_is_asked_for_scores_and_paid() -> None:
    fusion = Fusion(cosine=0, log_rank=0, text=1.0, scorer=Lengths())
    found = candidates(12)
    (ranking,) = FusionRanker(fusion, CandidateVectors(HashEncoder())).rank_batch([found])
    assert ranking.order == (11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)  # p11 and p10 are longer; ties by id descending
    assert ranking.bill.forwards == 12
    assert fusion.identity["scorer"] == {"name": "lengths"}


@given(n=st.integers(1, 12), k=st.sampled_from([0.0, 60.0]))
def test_reciprocal_ranks_are_added(n: int, k: float) -> None:
    known = evidence(n)
    cosines = (known.vectors_NE.astype(float) @ known.query_E.astype(float)).tolist()
    by_encoder = {i: rank for rank, i in enumerate(sorted(range(n), key=lambda i: -cosines[i]), start=1)}
    expected = [1 / (k + i + 1) + 1 / (k + by_encoder[i]) for i in range(n)]
    assert ReciprocalRankFusion(k=k).scores(known) == pytest.approx(expected)


def test_without_a_weight_for_the_rank_it_is_the_encoder_and_nothing_is_encoded_twice() -> None:
    encoder, batch = HashEncoder(), [candidates(7), candidates(0, "r"), candidates(4, "s")]
    alone = EncoderRanker(encoder)
    expected = [ranking.order for ranking in alone.rank_batch(batch)]
    queries = encoder.seen - 11
    fused = FusionRanker(Fusion(log_rank=0), alone.vectors).rank_batch(batch)
    assert [ranking.order for ranking in fused] == expected
    assert queries == 2
    assert encoder.seen == 2 + 2 * 11  # without a store passages are encoded by each ranker, queries once
    assert fused[0].bill.seconds_encode > 0


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"first": 0}, "first is 0"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"smoothing": 1.5}, "smoothing is 1.5"),
        ({"text": 1.0}, "no scorer"),
        ({"scorer": Lengths()}, "text has no weight"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        Fusion(**settings)
    with pytest.raises(BadInput, match="k is -1"):
        ReciprocalRankFusion(k=-1)


def test_scores_that_candidates_lack_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"fusion\.first_stage") as caught:
        FusionRanker(Fusion(first_stage=0.3), CandidateVectors(HashEncoder())).rank_batch([candidates(3)])
    assert caught.value.remedy == "use a run with scores, or set first_stage to 0"
