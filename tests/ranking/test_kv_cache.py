"""Which LLMs the cache can serve; its contents are tested through decoding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.ranking.constrained import Constrained
from perank.ranking.kv_cache import KVCache, _chunks, as_argument
from support import tiny
from support.brute_force import brute_force


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mistral", {"sliding_window": 12}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 0}),
        (
            "qwen2",
            {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 12, "use_sliding_window": True},
        ),
        ("llama", {"max_position_embeddings": 12}),
    ],
)
def test_an_llm_that_sees_less_than_the_window_is_refused(kind: str, options: dict[str, Any]) -> None:
    model = tiny.model_of(kind, **options)
    with pytest.raises(BadInput, match=r"sees 12 tokens, \d+ are needed|has 12 positions"):
        Constrained().decode(model, tiny.windows([9]))


def test_a_sliding_window_that_is_wide_enough_is_used() -> None:
    model = tiny.model_of("mistral", sliding_window=64)
    windows = tiny.windows([9, 4])
    assert Constrained().decode(model, windows).orders == brute_force(model, windows)[0]


def test_what_cannot_take_tokens_back_is_refused() -> None:
    recurrent = tiny.tiny_model()
    recurrent.llm._is_stateful = True
    with pytest.raises(BadInput, match="recurrent"):
        KVCache(recurrent, 10)
    linear = tiny.tiny_model()
    linear.decoder.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(BadInput, match="linear attention"):
        KVCache(linear, 10)


def test_an_attention_without_masks_is_refused() -> None:
    config = SimpleNamespace(_attn_implementation="flash_attention_2")
    llm = SimpleNamespace(get_decoder=lambda: SimpleNamespace(config=config))
    with pytest.raises(BadInput, match="sdpa or eager"):
        KVCache(SimpleNamespace(llm=llm), 10)  # type: ignore[arg-type]


@given(lengths=st.lists(st.integers(1, 99), min_size=1, max_size=30), tokens=st.integers(1, 400))
def test_prompts_are_read_in_chunks_within_the_bound(lengths: list[int], tokens: int) -> None:
    chunks = list(_chunks(lengths, tokens))
    assert [row for rows in chunks for row in range(len(lengths))[rows]] == list(range(len(lengths)))
    for rows in chunks:
        size = len(lengths[rows])
        assert size == 1 or size * max(lengths[rows]) <= tokens


def test_the_cache_goes_under_the_name_that_the_decoder_knows() -> None:
    class Former:
        def forward(self, inputs_embeds: Any, past_key_values: Any = None, use_cache: bool = False) -> None: ...

    class Renamed:
        def forward(self, inputs_embeds: Any, cache: Any = None, use_cache: bool = False, **more: Any) -> None: ...

    store: Any = object()
    assert as_argument(store, Former()) == {"past_key_values": store, "use_cache": True}
    assert as_argument(store, Renamed()) == {"cache": store, "use_cache": True}
