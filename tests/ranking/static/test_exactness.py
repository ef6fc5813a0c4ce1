"""In fp64 no window differs from Algorithm 1: 2,000, of 2 to 100 passages, both kinds of layers; and with anchors."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from perank.ranking.constrained import Constrained
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from support import tiny

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1},
    "mistral": {"sliding_window": None},
    "qwen2": {"num_key_value_heads": 4},
    "qwen3": {"head_dim": 8},
}
BATCHES = [1] * 100 + [3] * 50 + [16] * 16  # 506 windows


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_no_window_differs_from_algorithm_1(family: str) -> None:
    dice, windows, forwards = random.Random(family), 0, 0
    models = [tiny.model_of(family, seed=seed, **FAMILIES[family]).requires_grad_(False) for seed in range(4)]
    decoders = [(model, Static(lean=lean)) for model in models for lean in (True, False)]
    for turn, batch in enumerate(dice.sample(BATCHES, len(BATCHES))):
        sizes = [round(2 * 50 ** dice.random()) for _ in range(batch)]
        drawn = tiny.windows(sizes, seed=turn)
        depth = dice.choice([None, 10, [dice.randint(1, n) for n in sizes]])
        model, decoder = decoders[turn % len(decoders)]
        plain = Constrained().decode(model, replace(drawn, depth=depth))
        fast = decoder.decode(model, replace(drawn, depth=depth))
        assert fast.orders == plain.orders
        windows += batch
        forwards += sum(fast.forwards)
    print(f"{family}: {windows} windows, none differs, {forwards} forwards")


@pytest.mark.slow
def test_no_window_differs_from_algorithm_1_with_anchors() -> None:
    dice, windows = random.Random("anchors"), 0
    settings = [replace(tiny.ANCHORS, stepwise=seed != 3) for seed in range(4)]
    models = [tiny.tiny_model(seed, anchors=anchors) for seed, anchors in enumerate(settings)]
    decoders = [(model, [Speculative(), Static(lean=True), Static(lean=False)]) for model in models]
    for turn, batch in enumerate(dice.sample(BATCHES * 4, 4 * len(BATCHES))):
        sizes = [round(2 * 50 ** dice.random()) for _ in range(batch)]
        depth = dice.choice([None, 10, [dice.randint(1, n) for n in sizes]])
        drawn = replace(tiny.placed(tiny.windows(sizes, seed=turn), seed=turn), depth=depth)
        model, others = decoders[turn % len(decoders)]
        plain = Constrained().decode(model, drawn)
        for decoder in others:
            assert decoder.decode(model, drawn).orders == plain.orders
        windows += batch
    print(f"anchors: {windows} windows, none differs by any of three decoders")
