"""Anchored scores in every decoder and in training, against the formula written out here."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.anchors import AnchorSettings
from perank.model.pe_rank import PERank
from perank.ranking.constrained import AnchorsAlone, Constrained, SinglePass
from perank.ranking.decoder import WindowBatch
from perank.ranking.reranker import Reranker
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from perank.ranking.windows import Windows
from support import tiny
from support.brute_force import alone

SETTINGS = {
    "all terms": tiny.ANCHORS,
    "the cosine alone": AnchorSettings(cosine=40.0),
    "the rank alone": AnchorSettings(rank=8.0),
    "the feedback alone": AnchorSettings(feedback=30.0, llm=0.5),
    "the first mean at every step": replace(tiny.ANCHORS, stepwise=False),
}
DECODERS = {
    "speculative": Speculative(),
    "one token": Speculative(nodes=1),
    "wide trees": Speculative(nodes=40),
    "static": Static(),
    "lean": Static(lean=True),
}


def model_with(settings: AnchorSettings, seed: int = 0) -> PERank:
    return tiny.tiny_model(seed, anchors=settings)


def dot(one: Tensor, other: Tensor) -> float:
    return sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))


def scores_after(
    model: PERank, windows: WindowBatch, b: int, ranked: list[int], settings: AnchorSettings
) -> list[float]:
    """The formula, candidate by candidate, with the whole sequence read again."""
    n = int(windows.candidates_BN[b].sum())
    vectors_NE = windows.vectors_BNE[b, :n]
    projected_ND = model.projector(vectors_NE)
    prompt_LD = model.embed(alone(windows.prompts, b, n), projected_ND[None])[0]
    sequence_LD = torch.cat([prompt_LD, projected_ND[ranked]])
    hidden_D = model.decoder(inputs_embeds=sequence_LD[None], use_cache=False).last_hidden_state[0, -1]
    origin = windows.origin
    assert origin is not None and windows.query_BE is not None
    mean_E = vectors_NE[ranked].sum(0) if ranked and settings.stepwise else origin.ranked_BKE[b, 0]
    mean_E = mean_E / math.sqrt(dot(mean_E, mean_E))
    return [
        settings.llm * float(model.score_scale) * dot(hidden_D, projected_ND[j])
        + (settings.cosine or 0) * dot(windows.query_BE[b], vectors_NE[j])
        - (settings.rank or 0) * math.log(1 + int(origin.ranks_BN[b, j]))
        + (settings.feedback or 0) * dot(mean_E, vectors_NE[j])
        for j in range(n)
    ]


def plain_ranking(model: PERank, windows: WindowBatch, b: int, settings: AnchorSettings) -> tuple[int, ...]:
    """Algorithm 1 by the formula; the last passage is forced."""
    left, ranked = list(range(int(windows.candidates_BN[b].sum()))), list[int]()
    while len(left) > 1:
        scores = scores_after(model, windows, b, ranked, settings)
        ranked.append(max(left, key=lambda j, scores=scores: (scores[j], -j)))
        left.remove(ranked[-1])
    return (*ranked, *left)


@pytest.mark.parametrize("name", SETTINGS)
def test_algorithm_1_decides_by_the_formula(name: str) -> None:
    model, windows = model_with(SETTINGS[name]), tiny.placed(tiny.windows([9, 2, 6], seed=3))
    expected = [plain_ranking(model, windows, b, SETTINGS[name]) for b in range(3)]
    assert Constrained().decode(model, windows).orders == expected
    first = SinglePass().decode(model, windows).orders
    for b, order in enumerate(first):
        scores = scores_after(model, windows, b, [], SETTINGS[name])
        assert list(order) == sorted(range(len(scores)), key=lambda j, scores=scores: (-scores[j], j))


@pytest.mark.parametrize("name", SETTINGS)
def test_training_scores_are_those_of_decoding(name: str) -> None:
    model, windows = model_with(SETTINGS[name]), tiny.placed(tiny.windows([7, 4], seed=5))
    orders = [[3, 0, 6, 1, 5, 2, 4], [1, 3, 0, 2, -1, -1, -1]]
    scores_BKN = model.step_scores(tiny.rows(windows, torch.tensor(orders)))
    for b, n in enumerate([7, 4]):
        for step in range(n):
            expected = scores_after(model, windows, b, orders[b][:step], SETTINGS[name])
            assert scores_BKN[b, step, :n].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", SETTINGS)
def test_speculation_stays_exact(name: str, decoder: str) -> None:
    draw = random.Random(f"{name} {decoder}")
    for batch in (1, 3, 16):
        sizes = [draw.randint(1, 30) for _ in range(batch)]
        windows = tiny.placed(tiny.windows(sizes, seed=draw.randrange(1000)), seed=draw.randrange(1000))
        windows = replace(windows, depth=draw.choice([None, 10, [draw.randint(0, 35) for _ in sizes]]))
        model = model_with(SETTINGS[name], seed=draw.randrange(4))
        plain, fast = Constrained().decode(model, windows), DECODERS[decoder].decode(model, windows)
        assert fast.orders == plain.orders
        assert sum(fast.forwards) <= sum(plain.forwards)


def test_every_term_decides_something() -> None:
    windows = tiny.placed(tiny.windows([20] * 4, seed=1))
    all_terms = Constrained().decode(model_with(tiny.ANCHORS), windows).orders
    for name in ("cosine", "rank", "feedback"):
        without = model_with(replace(tiny.ANCHORS, **{name: None}))
        assert Constrained().decode(without, windows).orders != all_terms
    fixed = model_with(replace(tiny.ANCHORS, stepwise=False))
    assert Constrained().decode(fixed, windows).orders != all_terms


def test_anchors_alone_are_the_model_whose_llm_weighs_nothing() -> None:
    windows = tiny.placed(tiny.windows([20, 3, 11]))
    silent = model_with(replace(tiny.ANCHORS, llm=0.0))
    found = AnchorsAlone().decode(model_with(tiny.ANCHORS), windows)
    assert found.orders == Constrained().decode(silent, windows).orders == Speculative().decode(silent, windows).orders
    assert (found.forwards, found.tokens_processed) == ([0, 0, 0], [0, 0, 0])
    with pytest.raises(BadInput, match="no anchors"):
        AnchorsAlone().decode(tiny.tiny_model(), windows)


@pytest.mark.parametrize("decoder", [Constrained(), Speculative(), Static(), AnchorsAlone()])
def test_a_first_stage_is_not_made_up(decoder: object) -> None:
    windows = replace(tiny.placed(tiny.windows([5])), origin=None)
    with pytest.raises(ValueError, match="first stage"):
        decoder.decode(model_with(tiny.ANCHORS), windows)  # type: ignore[attr-defined]


def vectors_and_query() -> tuple[Tensor, Tensor]:
    return tiny.unit_vectors(23, 8, seed=9), tiny.unit_vectors(8, seed=10)


def test_sliding_windows_use_the_ranks_of_the_whole_first_stage() -> None:
    """By a strong rank term alone, passages come out in the first stage's order however the windows cut it."""
    vectors_NE, _ = vectors_and_query()
    model = tiny.tiny_model(2, dtype=torch.float32, anchors=AnchorSettings(rank=1e5, llm=1.0))
    for window, step in ((20, 10), (6, 3), (5, 5)):
        ranker = Reranker(model, tiny.tiny_prompts(), windows=Windows(window, step))
        assert ranker.rank("otter", passage_embeddings=vectors_NE).order == tuple(range(23))


def test_windows_in_turn_by_hand() -> None:
    vectors_NE, query_E = vectors_and_query()
    model = tiny.tiny_model(2, anchors=tiny.ANCHORS)
    prompts, order = tiny.tiny_prompts(), list(range(23))
    for start, stop in ((13, 23), (8, 18), (3, 13), (0, 8)):
        shown = order[start:stop]
        one = tiny.placed(tiny.windows([len(shown)], queries=["otter"]))
        origin = replace(one.origin, ranks_BN=torch.tensor([shown]), ranked_BKE=vectors_NE[:5].sum(0)[None, None])
        one = replace(one, vectors_BNE=vectors_NE[shown][None], query_BE=query_E[None], origin=origin)
        order[start:stop] = [shown[i] for i in Constrained().decode(model, one).orders[0]]
    for decoder in ("constrained", "speculative", "static"):
        ranker = Reranker(model, prompts, windows=Windows(10, 5), decoder=decoder)
        found = ranker.rank("otter", passage_embeddings=vectors_NE, query_embedding=query_E)
        assert list(found.order) == order


def test_feedback_is_weighted_by_similarity_and_rank() -> None:
    vectors_NE, query_E = (values.double() for values in vectors_and_query())
    settings = AnchorSettings(cosine=4.0, feedback=2.0, first=7, temperature=0.2)
    weights = [math.exp((dot(vectors_NE[r], query_E) - 0.05 * math.log(1 + r)) / 0.2) for r in range(7)]
    wanted_E = sum(weight * vectors_NE[r] for r, weight in enumerate(weights)) / sum(weights)
    ranks_N = torch.arange(22, -1, -1)
    torch.testing.assert_close(settings.first_sum(vectors_NE.flip(0), ranks_N, query_E), wanted_E)
    torch.testing.assert_close(
        replace(settings, temperature=None).first_sum(vectors_NE, ranks_N, None), vectors_NE[-7:].sum(0)
    )
    with pytest.raises(ValueError, match="query's vector"):
        settings.first_sum(vectors_NE, ranks_N, None)


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.0}, {"temperature": math.inf}, {"cosine": None, "temperature": 1.0}]
)
def test_a_temperature_needs_similarities_and_is_a_positive_number(changes: dict[str, float | None]) -> None:
    with pytest.raises(BadInput, match=r"anchors\.temperature"):
        replace(tiny.ANCHORS, **changes)


def test_a_model_that_learned_the_first_rank_alone_is_asked_once_per_window() -> None:
    settings = replace(tiny.ANCHORS, stepwise=False, first_state=True)
    model, windows = model_with(settings), tiny.placed(tiny.windows([9, 6], seed=3))
    orders = torch.tensor([[3, 0, 6, 1, 5, 2, 4, 7, 8], [1, 3, 0, 2, 5, 4, -1, -1, -1]])
    scores_BKN = model.step_scores(tiny.rows(windows, orders))
    for b, n in enumerate([9, 6]):
        first = scores_after(model, windows, b, [], settings)
        for step in range(n):  # so that Algorithm 1 sorts by the first scores
            assert scores_BKN[b, step, :n].tolist() == pytest.approx(first, abs=1e-9)
    vectors_NE, query_E = vectors_and_query()
    for decoder in ("constrained", "speculative", "static", "single_pass"):
        ranker = Reranker(model, tiny.tiny_prompts(), windows=Windows(10, 5), decoder=decoder)
        found = ranker.rank("otter", passage_embeddings=vectors_NE, query_embedding=query_E)
        assert found.bill.forwards == 4
        assert found.order == ranker.rank("otter", passage_embeddings=vectors_NE, query_embedding=query_E).order
    assert isinstance(Reranker(model, tiny.tiny_prompts(), decoder="anchors").decoder, AnchorsAlone)
    with pytest.raises(BadInput, match=r"anchors\.first_state"):
        replace(tiny.ANCHORS, first_state=True)


def test_weighted_feedback_decides() -> None:
    vectors_NE, query_E = vectors_and_query()
    found = []
    for temperature in (None, 0.02):
        model = tiny.tiny_model(2, dtype=torch.float32, anchors=replace(tiny.ANCHORS, temperature=temperature))
        assert model.anchors is not None and model.anchors.current.temperature == temperature
        ranker = Reranker(model, tiny.tiny_prompts(), windows=Windows(10, 5))
        found.append(ranker.rank("otter", passage_embeddings=vectors_NE, query_embedding=query_E).order)
    assert found[0] != found[1]


def test_an_order_that_means_nothing_counts_for_nothing() -> None:
    """What is ranked then depends on the passages' order only through the prompt, which here weighs nothing."""
    vectors_NE, query_E = vectors_and_query()
    model = tiny.tiny_model(2, dtype=torch.float32, anchors=replace(tiny.ANCHORS, llm=0.0))
    for first_stage_order in (True, False):
        ranker = Reranker(
            model, tiny.tiny_prompts(), windows=Windows(23, 23), first_stage_order=first_stage_order, decoder="anchors"
        )
        turned = vectors_NE.flip(0)
        one = ranker.rank("otter", passage_embeddings=vectors_NE, query_embedding=query_E).order
        other = ranker.rank("otter", passage_embeddings=turned, query_embedding=query_E).order
        assert (one == tuple(22 - i for i in other)) is not first_stage_order
