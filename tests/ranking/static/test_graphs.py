"""CUDA graphs, with a stand-in for the capture where there is no GPU: when what is captured and replayed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from perank.ranking.constrained import Constrained
from perank.ranking.static import engines, graphs
from perank.ranking.static.decoder import Static
from support import tiny


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that were captured; replaying runs them."""
    found: list[str] = []

    def captured(function: Callable[[], None]) -> Callable[[], None]:
        found.append("step" if function.__name__ == "step" else "prefill")
        return function

    monkeypatch.setattr(graphs, "captured", captured)
    monkeypatch.setattr(engines, "Engine", graphs.ReplayedEngine)
    return found


def test_each_function_is_captured_once_after_two_calls(captures: list[str]) -> None:
    model, decoder, plain = tiny.tiny_model(2), Static(nodes=2), Static(nodes=2)
    for seed in range(5):
        windows = tiny.windows([12], seed=seed, queries=["sea otter"])
        assert decoder.decode(model, windows).orders == plain.decode(model, windows).orders
        assert captures.count("prefill") == (seed >= 2) * 2  # both decoders' engines
    assert captures.count("step") == 2


def test_other_buckets_are_captured_on_their_own(captures: list[str]) -> None:
    model, decoder = tiny.tiny_model(2), Static(nodes=2)
    for n in (12, 9):
        for seed in range(3):
            decoder.decode(model, tiny.windows([n], seed=seed, queries=["sea otter"]))
    assert captures.count("prefill") == 2


def test_prompts_that_begin_with_known_tokens_are_captured_on_their_own(captures: list[str]) -> None:
    model, decoder = tiny.tiny_model(2), Static(nodes=2)
    for seed in range(4):
        windows = tiny.windows([12], seed=seed, queries=["sea otter"])
        whole = Constrained().decode(model, windows)
        assert decoder.decode(model, tiny.continued(decoder, model, windows)).orders == whole.orders
        assert captures.count("prefill") == (seed >= 2) * 2  # from the first token and from the second
    assert decoder.engines is not None
    assert len(decoder.engines.made) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replaying_is_running() -> None:
    model, decoder = tiny.tiny_model(2).cuda(), Static()
    for seed in range(5):
        windows = tiny.windows([20, 9], seed=seed).to("cuda")
        assert decoder.decode(model, windows).orders == Constrained().decode(model, windows).orders
    assert decoder.engines is not None
    made = next(iter(decoder.engines.made.values()))
    assert isinstance(made, graphs.ReplayedEngine)
    assert set(made.launches) == {"prefill from 0", "step"}
