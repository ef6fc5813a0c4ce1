"""Algorithm 1 with a cache and batches against Algorithm 1 without either, in fp64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Decoded, Depth, WindowBatch
from support import tiny
from support.brute_force import alone, brute_force
from support.differences import Difference, differences

SHAPES: dict[str, dict[str, Any]] = {
    "one key a head": {"heads": 4, "kv_heads": 4},
    "grouped heads": {"heads": 4, "kv_heads": 2},
    "one key for all": {"heads": 4, "kv_heads": 1},
    "eager attention": {"attn_implementation": "eager"},
}


@pytest.fixture(scope="module")
def model() -> PERank:
    return tiny.tiny_model(7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [None, 4])
def test_the_cache_changes_nothing(shape: str, depth: int | None) -> None:
    for seed in range(3):
        model = tiny.tiny_model(seed, **SHAPES[shape])
        windows = tiny.windows([12, 1, 7, 0, 2, 20], seed=seed, depth=depth)
        decoded = Constrained().decode(model, windows)
        orders, margins = brute_force(model, windows)
        assert decoded.orders == orders
        for one, other in zip(decoded.margins, margins, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), seed=st.integers(0, 20), depth=st.integers(0, 14))
@settings(max_examples=25, deadline=None)
def test_padding_and_company_change_nothing(model: PERank, sizes: list[int], seed: int, depth: int) -> None:
    windows = tiny.windows([*sizes, 1], seed=seed, depth=depth)
    together = Constrained().decode(model, windows)
    for b, n in enumerate(sizes):
        own = (windows.vectors_BNE[b : b + 1, :n], windows.candidates_BN[b : b + 1, :n])
        one = Constrained().decode(model, WindowBatch(alone(windows.prompts, b, n), *own, depth))
        assert one.orders[0] == together.orders[b]
        assert (one.forwards[0], one.tokens_processed[0]) == (together.forwards[b], together.tokens_processed[b])


def test_the_bill_counts_one_forward_a_rank_but_the_forced_last(model: PERank) -> None:
    windows = tiny.windows([20, 5, 2, 1, 0])
    lengths = windows.prompts.length_B.tolist()
    full = Constrained().decode(model, windows)
    assert full.forwards == [19, 4, 1, 0, 0]
    assert full.tokens_generated == [20, 5, 2, 1, 0]
    assert full.tokens_processed == [lengths[0] + 18, lengths[1] + 3, lengths[2], 0, 0]
    top = Constrained().decode(model, replace(windows, depth=[10, 4, 2, 1, 0]))
    assert top.forwards == [10, 4, 1, 0, 0]
    assert top.tokens_generated == [10, 4, 2, 1, 0]
    assert top.orders[0][:10] == full.orders[0][:10]


def test_every_decision_is_the_best_of_what_training_would_score(model: PERank) -> None:
    windows = tiny.windows([9, 9], seed=4)
    decoded = Constrained().decode(model, windows)
    order_BK = torch.tensor(decoded.orders)
    with torch.no_grad():
        scores_BKN = model.step_scores(tiny.rows(windows, order_BK))
    for b, order in enumerate(decoded.orders):
        for step, chosen in enumerate(order):
            left = [float(scores_BKN[b, step, i]) for i in order[step:]]
            assert float(scores_BKN[b, step, chosen]) == max(left)


def test_equal_scores_keep_the_prompts_order() -> None:
    level = tiny.tiny_model(7)
    level.score_scale.zero_()
    decoded = Constrained().decode(level, tiny.windows([6]))
    assert decoded.orders == [tuple(range(6))]
    assert decoded.margins == [(0.0,) * 5]


def test_other_kinds_of_llm_decode_too() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    vocabulary = len(tiny.tiny_tokenizer())
    for kind, options in (
        ("qwen2", {"num_key_value_heads": 2}),
        ("gpt_neox", {}),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 8, "attn_implementation": "eager"}),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": None}),
    ):
        config = AutoConfig.for_model(
            kind,
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.3,
            **options,
        )
        torch.manual_seed(0)
        llm = AutoModelForCausalLM.from_config(config, **{k: v for k, v in options.items() if k.startswith("attn")})
        model = PERank(llm.eval(), tiny.tiny_model().projector).double()
        windows = tiny.windows([9, 4], seed=2)
        assert Constrained().decode(model, windows).orders == brute_force(model, windows)[0], kind


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_arithmetic_only_decides_otherwise_where_the_margin_is_small(dtype: torch.dtype) -> None:
    windows = tiny.windows([20, 13], seed=1)
    for seed in range(5):
        wide = Constrained().decode(tiny.tiny_model(seed), windows)
        narrow = Constrained().decode(tiny.tiny_model(seed, dtype=dtype), windows)
        for found in differences(wide, narrow):
            assert found.margin < max(wide.margins[found.row]) * (1e-4 if dtype == torch.float32 else 0.3)


def test_differences_are_the_first_decision_that_parts() -> None:
    def decoded(orders: list[tuple[int, ...]]) -> Decoded:
        return Decoded(orders, [], [], [], [(3.0, 0.5), (2.0, 1.0)], 0, 0)

    one, other = decoded([(0, 1, 2), (2, 1, 0)]), decoded([(0, 2, 1), (2, 1, 0)])
    assert differences(one, other) == [Difference(row=0, rank=1, margin=0.5)]
    assert differences(one, decoded([(0, 1, 2), (2, 1, 0)])) == []


def test_scores_that_overflow_are_an_error(model: PERank) -> None:
    broken = tiny.tiny_model(7)
    broken.projector[2].bias.fill_(torch.inf)
    with pytest.raises(BadInput, match="not finite"):
        Constrained().decode(broken, tiny.windows([3]))


@pytest.mark.parametrize("depth", [-1, [1, -1], [1]])
def test_depths_below_0_or_not_one_per_window_are_refused(model: PERank, depth: Depth) -> None:
    with pytest.raises(BadInput, match="depth"):
        Constrained().decode(model, tiny.windows([3, 2], depth=depth))
