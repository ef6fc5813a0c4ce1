"""Grouping and padding of token ids."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.model.encoders.token_batches import length_batches, padded


@settings(deadline=None)
@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 4000))
def test_batches_hold_every_text_once_longest_first_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = length_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or lengths[batch[0]] * len(batch) <= budget for batch in batches)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=9), min_size=1, max_size=7), st.integers(0, 3))
def test_padded_ids_and_masks_are_those_of_plain_lists(rows: list[list[int]], value: int) -> None:
    length = max(map(len, rows))
    ids_BL, mask_BL = padded(rows, value)
    assert ids_BL.tolist() == [row + [value] * (length - len(row)) for row in rows]
    assert mask_BL.tolist() == [[1] * len(row) + [0] * (length - len(row)) for row in rows]
    assert ids_BL.dtype == mask_BL.dtype == torch.int64
