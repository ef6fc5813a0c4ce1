"""Splicing against a loop over positions."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.model.pe_rank import splice


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    """(slots of every row, -1 for none, no position twice in a row; prompt length)."""
    length, slots = draw(st.integers(1, 6)), draw(st.integers(0, 4))
    places = st.permutations([*range(length), *[-1] * slots]).map(lambda row: row[:slots])
    return draw(st.lists(places, min_size=1, max_size=3)), length


@settings(deadline=None, max_examples=60)
@given(cases())
def test_vectors_land_at_their_slots_and_nowhere_else(case: Any) -> None:
    slots, length = case
    torch.manual_seed(0)
    embedded, vectors = torch.randn(len(slots), length, 3), torch.randn(len(slots), len(slots[0]), 3)
    before = embedded.clone()
    expected = embedded.clone()
    for b, row in enumerate(slots):
        for n, place in enumerate(row):
            if place >= 0:
                expected[b, place] = vectors[b, n]
    found = splice(embedded, torch.tensor(slots, dtype=torch.long).view(len(slots), -1), vectors)
    assert torch.equal(found, expected)
    assert torch.equal(embedded, before)


def test_gradients_reach_the_vectors_and_the_tokens_that_stay() -> None:
    embedded, vectors = torch.zeros(1, 3, 2, requires_grad=True), torch.ones(1, 2, 2, requires_grad=True)
    splice(embedded, torch.tensor([[1, -1]]), vectors).sum().backward()
    assert embedded.grad is not None and embedded.grad[0, :, 0].tolist() == [1, 0, 1]
    assert vectors.grad is not None and vectors.grad[0, :, 0].tolist() == [1, 0]


def test_the_prompts_number_type_is_kept() -> None:
    found = splice(torch.zeros(1, 2, 2, dtype=torch.bfloat16), torch.tensor([[0]]), torch.ones(1, 1, 2))
    assert found.dtype == torch.bfloat16
