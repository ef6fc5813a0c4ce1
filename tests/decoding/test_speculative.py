"""Speculation gives Algorithm 1's ranking: fewer forwards, the same decisions."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from perank.decoding.constrained import Constrained
from perank.decoding.drafts import Draft, agreement, redraft
from perank.decoding.speculative import Speculative
from perank.errors import BadInput
from perank.model.backbone import PERank

DECODERS = {
    "plain": Speculative(),
    "prior: prompt": Speculative(prior="prompt"),
    "prior: similarity": Speculative(prior="similarity"),
    "short": Speculative(longest=3),
}


@pytest.fixture(scope="module")
def models() -> list[PERank]:
    return [tiny.tiny_model(seed, kv_heads=1 + seed % 2, heads=4) for seed in range(4)]


@pytest.mark.parametrize("name", DECODERS)
def test_it_decides_as_algorithm_1_does(name: str, models: list[PERank]) -> None:
    draw = random.Random(name)
    for batch in (1, 3, 16) * 2:
        sizes = [draw.randint(1, 40) for _ in range(batch)]
        windows = tiny.windows(sizes, seed=draw.randrange(1000))
        depth = draw.choice([None, 10, [draw.randint(0, 45) for _ in sizes]])
        model = draw.choice(models)
        query_BE = tiny.unit_vectors(batch, 8, seed=batch, dtype=torch.float64)
        plain = Constrained().decode(model, *windows, depth=depth)
        fast = DECODERS[name].decode(model, *windows, depth=depth, query_BE=query_BE)
        assert fast.orders == plain.orders
        assert fast.tokens_generated == plain.tokens_generated
        assert all(f <= p for f, p in zip(fast.forwards, plain.forwards, strict=True))
        for one, other in zip(fast.margins, plain.margins, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), seed=st.integers(0, 20), depth=st.integers(0, 14))
@settings(max_examples=25, deadline=None)
def test_company_changes_neither_ranking_nor_bill(
    models: list[PERank], sizes: list[int], seed: int, depth: int
) -> None:
    together = Speculative().decode(models[0], *tiny.windows([*sizes, 13], seed=seed), depth=depth)
    for b, n in enumerate(sizes):
        if n:
            one = Speculative().decode(models[0], *tiny.windows([n], seed=seed), depth=depth)
            assert one.orders[0] == together.orders[b]
            assert (one.forwards[0], one.tokens_processed[0]) == (together.forwards[b], together.tokens_processed[b])


def test_a_draft_that_holds_takes_two_forwards_and_one_in_the_prefill_takes_one() -> None:
    model = tiny.tiny_model()
    model.score_scale.zero_()  # all scores tie, so greedy decoding keeps the prompt's order
    prompts, vectors_BNE, candidates_BN = tiny.windows([6])
    length = int(prompts.length_B[0])
    drafted = Speculative().decode(model, prompts, vectors_BNE, candidates_BN)
    assert (drafted.orders, drafted.forwards, drafted.tokens_processed) == ([tuple(range(6))], [2], [length + 4])
    inside = Speculative(prior="prompt").decode(model, prompts, vectors_BNE, candidates_BN)
    assert (inside.orders, inside.forwards, inside.tokens_processed) == ([tuple(range(6))], [1], [length + 4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_arithmetic_only_decides_otherwise_where_the_margin_is_small(dtype: torch.dtype) -> None:
    for seed in range(5):
        model = tiny.tiny_model(seed, dtype=dtype)
        windows = tiny.windows([20, 13, 31], seed=seed, dtype=dtype)
        plain, fast = Constrained().decode(model, *windows), Speculative().decode(model, *windows)
        for one, other, margins in zip(plain.orders, fast.orders, plain.margins, strict=True):
            differing = [i for i, (x, y) in enumerate(zip(one, other, strict=True)) if x != y]
            if differing:
                assert margins[differing[0]] < max(margins) * (1e-4 if dtype == torch.float32 else 0.1)


def test_agreement_is_the_longest_prefix_that_greedy_decoding_takes() -> None:
    # Candidate 3 is gone. Step 0 prefers 1, step 1 (behind 1) 0, step 2 (behind 1 and 0) prefers 4 to the drafted 2.
    scores_BKN = torch.tensor([[[1.0, 5, 0, 9, 2], [4, 8, 1, 9, 2], [7, 8, 1, 9, 3.5], [0, 0, 0, 0, 0]]])
    draft = Draft(torch.tensor([[1, 0, 2]]), torch.tensor([3]), 3)
    accepted_B, margin_BK = agreement(scores_BKN, draft, torch.tensor([[True, True, True, False, True]]))
    assert accepted_B.tolist() == [2]
    assert margin_BK[0, :3].tolist() == [3.0, 2.0, 2.5]


def test_agreement_stops_where_a_rows_own_draft_ends() -> None:
    scores_BKN = torch.tensor([[[3.0, 2, 1], [3, 2, 1], [3, 2, 1]]])
    draft = Draft(torch.tensor([[0, 1]]), torch.tensor([1]), 2)
    accepted_B, _ = agreement(scores_BKN, draft, torch.ones(1, 3, dtype=torch.bool))
    assert accepted_B.tolist() == [1]


def test_a_new_draft_follows_the_old_scores_of_the_same_ranks() -> None:
    # One rank of the old draft held. Its correction is 2, by step 1; rank 2 follows step 2, which prefers 3 to 1.
    scores_BKN = torch.tensor([[[9.0, 0, 0, 0], [0, 5, 6, 1], [0, 2, 8, 3], [0, 1, 1, 1]]])
    old = Draft(torch.tensor([[0, 1, 2]]), torch.tensor([3]), 3)
    open_BN = torch.tensor([[False, True, True, True]])
    new = redraft(scores_BKN, old, torch.tensor([1]), open_BN, [2])
    assert new.fed.tolist() == [[2, 3]]


def test_unknown_drafts_are_refused() -> None:
    with pytest.raises(BadInput, match="prior"):
        Speculative(prior="luck")
    with pytest.raises(BadInput, match="drafts of 0"):
        Speculative(longest=0)
