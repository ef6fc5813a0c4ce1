"""Speculation gives Algorithm 1's ranking: fewer forwards, the same decisions."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.speculative import Speculative
from support import tiny
from support.differences import differences

DECODERS = {
    "as fast as it can": Speculative(),
    "one token a forward": Speculative(nodes=1),
    "a few tokens": Speculative(nodes=5),
    "wide trees": Speculative(nodes=40),
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
        windows = replace(windows, depth=draw.choice([None, 10, [draw.randint(0, 45) for _ in sizes]]))
        model = draw.choice(models)
        plain = Constrained().decode(model, windows)
        fast = DECODERS[name].decode(model, windows)
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
    together = Speculative(nodes=7).decode(models[0], tiny.windows([*sizes, 13], seed=seed, depth=depth))
    for b, n in enumerate(sizes):
        if n:
            one = Speculative(nodes=7).decode(models[0], tiny.windows([n], seed=seed, depth=depth))
            assert one.orders[0] == together.orders[b]
            assert (one.forwards[0], one.tokens_processed[0]) == (together.forwards[b], together.tokens_processed[b])


def test_a_tree_of_one_token_is_algorithm_1(models: list[PERank]) -> None:
    windows = tiny.windows([12, 5])
    plain, fast = Constrained().decode(models[1], windows), Speculative(nodes=1).decode(models[1], windows)
    assert (fast.forwards, fast.tokens_processed) == (plain.forwards, plain.tokens_processed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_arithmetic_only_decides_otherwise_where_the_margin_is_small(dtype: torch.dtype) -> None:
    for seed in range(5):
        model = tiny.tiny_model(seed, dtype=dtype)
        windows = tiny.windows([20, 13, 31], seed=seed, dtype=dtype)
        plain, fast = Constrained().decode(model, windows), Speculative().decode(model, windows)
        for found in differences(plain, fast):
            assert found.margin < max(plain.margins[found.row]) * (1e-4 if dtype == torch.float32 else 0.1)


def test_drafts_of_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="drafts of 0"):
        Speculative(nodes=0)
