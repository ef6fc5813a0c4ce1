"""The engine of fixed shapes gives Algorithm 1's ranking, in the forwards that speculation takes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.model.anchors import AnchorSettings
from perank.model.batches import PromptBatch
from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.options import Auto, decoder_named
from perank.ranking.speculative import Speculative
from perank.ranking.static import decoder as module
from perank.ranking.static.buckets import bucket_for, smaller
from perank.ranking.static.decoder import Static
from support import tiny
from support.brute_force import brute_force
from support.differences import differences

FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {"num_key_value_heads": 1},
    "qwen3": {"head_dim": 8, "num_key_value_heads": 2},
    "gpt_neox": {"num_key_value_heads": 4},
    "gemma2": {"head_dim": 8, "attn_implementation": "eager"},
}


@pytest.fixture(scope="module")
def models() -> list[PERank]:
    return [tiny.tiny_model(seed, kv_heads=1 + seed % 2, heads=4) for seed in range(3)]


@pytest.mark.parametrize("nodes", [None, 1, 5, 40])
def test_it_decides_as_algorithm_1_does(nodes: int | None, models: list[PERank]) -> None:
    draw, decoder = random.Random(nodes), Static(nodes)
    for batch in (1, 3, 16):
        sizes = [draw.randint(1, 40) for _ in range(batch)]
        windows = tiny.windows(sizes, seed=draw.randrange(1000))
        depth = draw.choice([None, 10, [draw.randint(0, 45) for _ in sizes]])
        model = draw.choice(models)
        plain, fast = (one.decode(model, replace(windows, depth=depth)) for one in (Constrained(), decoder))
        assert fast.orders == plain.orders
        assert fast.tokens_generated == plain.tokens_generated
        for one, other in zip(fast.margins, plain.margins, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), seed=st.integers(0, 20), depth=st.integers(0, 14))
@settings(max_examples=15, deadline=None)
def test_drafts_of_one_size_cost_what_speculation_costs(
    models: list[PERank], sizes: list[int], seed: int, depth: int
) -> None:
    windows = tiny.windows([*sizes, 1], seed=seed)
    there, here = (one.decode(models[0], replace(windows, depth=depth)) for one in (Speculative(7), Static(7)))
    assert here.orders == there.orders
    assert here.forwards == there.forwards
    assert here.tokens_processed == there.tokens_processed


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_llms_ranks_alike(family: str) -> None:
    model = tiny.model_of(family, **FAMILIES[family])
    windows = tiny.windows([9, 4, 13], seed=2)
    assert Static().decode(model, windows).orders == brute_force(model, windows)[0]


@pytest.mark.parametrize("slot", [True, "last"])
def test_the_querys_vector_is_read_where_a_model_wants_it(slot: bool | str) -> None:
    model = tiny.tiny_model(3, anchors=AnchorSettings(cosine=2.0))
    prompts = tiny.tiny_prompts(query_slot=slot)
    batch = PromptBatch.of([prompts.rank("sea otter", 9), prompts.rank("rain falls on the sun", 12)])
    query_BE = tiny.unit_vectors(2, 8, seed=5, dtype=torch.float64)
    windows = replace(tiny.windows([9, 12]), prompts=batch, query_BE=query_BE)
    plain, fast = (one.decode(model, windows) for one in (Constrained(), Static()))
    assert fast.orders == plain.orders


def test_buffers_of_earlier_windows_leave_nothing_behind(models: list[PERank]) -> None:
    decoder = Static()
    for seed, sizes in enumerate([[20, 20], [3, 17], [20, 20], [1, 0], [17, 3]]):
        windows = tiny.windows(sizes, seed=seed)
        assert decoder.decode(models[0], windows).orders == Constrained().decode(models[0], windows).orders


def test_the_padding_of_a_gpus_buckets_changes_nothing(models: list[PERank], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(module, "bucket_for", lambda _, *sizes, **options: bucket_for(gpu, *sizes, **options))
    monkeypatch.setattr(module, "smaller", lambda bucket, rows, _, nodes: smaller(bucket, rows, gpu, nodes))
    windows = tiny.windows([23, 4, 11, 2, 17])
    for depth in (None, 10):
        plain, fast = (one.decode(models[1], replace(windows, depth=depth)) for one in (Constrained(), Static()))
        assert fast.orders == plain.orders


def test_more_windows_than_an_engine_takes_are_decoded_in_turn(models: list[PERank]) -> None:
    windows = tiny.windows([3 + i % 5 for i in range(70)])
    plain, fast = (one.decode(models[1], replace(windows, depth=3)) for one in (Constrained(), Static()))
    assert fast.orders == plain.orders


def test_auto_is_static_where_layers_can_be_fused() -> None:
    trained, frozen, other = tiny.tiny_model(1), tiny.tiny_model(1), tiny.model_of("gpt_neox", num_key_value_heads=4)
    trained.requires_grad_(True)
    for model, made in ((trained, False), (frozen, True), (other, False)):
        decoder, windows = decoder_named("auto"), tiny.windows([9, 12])
        assert isinstance(decoder, Auto)
        assert decoder.decode(model, windows).orders == Constrained().decode(model, windows).orders
        assert (decoder.static.engines is not None) == made


def test_equal_scores_keep_the_prompts_order() -> None:
    level = tiny.tiny_model(7)
    level.score_scale.zero_()
    decoded = Static().decode(level, tiny.windows([6]))
    assert decoded.orders == [tuple(range(6))]
    assert decoded.margins == [(0.0,) * 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_arithmetic_only_decides_otherwise_where_the_margin_is_small(dtype: torch.dtype) -> None:
    for seed in range(3):
        model = tiny.tiny_model(seed, dtype=dtype)
        windows = tiny.windows([20, 13, 31], seed=seed, dtype=dtype)
        plain, fast = Constrained().decode(model, windows), Static().decode(model, windows)
        for found in differences(plain, fast):
            assert found.margin < max(plain.margins[found.row]) * (1e-4 if dtype == torch.float32 else 0.1)


def test_what_the_cache_refuses_is_refused() -> None:
    for family, options, said in (
        ("mistral", {"sliding_window": 12}, "sees 12 tokens"),
        ("llama", {"max_position_embeddings": 12}, "has 12 positions"),
    ):
        with pytest.raises(BadInput, match=said):
            Static().decode(tiny.model_of(family, **options), tiny.windows([9]))
    recurrent = tiny.tiny_model()
    recurrent.llm._is_stateful = True
    with pytest.raises(BadInput, match="recurrent"):
        Static().decode(recurrent, tiny.windows([9]))
    unmasked = tiny.tiny_model()
    unmasked.decoder.config._attn_implementation = "flash_attention_2"
    with pytest.raises(BadInput, match="sdpa or eager"):
        Static().decode(unmasked, tiny.windows([9]))


def test_scores_that_overflow_are_an_error_and_spoil_nothing() -> None:
    model, decoder = tiny.tiny_model(7), Static()
    bias = model.projector[2].bias
    before, windows = bias.clone(), tiny.windows([5])
    bias.fill_(torch.inf)
    with pytest.raises(BadInput, match="not finite"):
        decoder.decode(model, windows)
    bias.copy_(before)
    assert decoder.decode(model, windows).orders == Constrained().decode(model, windows).orders


def test_drafts_of_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="drafts of 0"):
        Static(nodes=0)
