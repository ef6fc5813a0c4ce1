"""The approximation and its price; decoders by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perank.errors import BadInput
from perank.ranking.constrained import SinglePass
from perank.ranking.options import decoder_named
from support import tiny
from support.brute_force import brute_force


def test_it_sorts_the_first_steps_scores_in_one_forward() -> None:
    model, windows = tiny.tiny_model(2), tiny.windows([9, 2, 1, 5])
    decoded = SinglePass().decode(model, windows)
    assert decoded.orders == brute_force(model, replace(windows, depth=1))[0]
    assert decoded.orders != brute_force(model, windows)[0]
    assert decoded.forwards == [1, 1, 0, 1]
    assert decoded.tokens_generated == [9, 2, 1, 5]


def test_decoders_have_names() -> None:
    for name in ("constrained", "speculative", "single_pass"):
        assert type(decoder_named(name)).__name__.lower() == name.replace("_", "")
    with pytest.raises(BadInput, match="unknown decoder 'beam'"):
        decoder_named("beam")
