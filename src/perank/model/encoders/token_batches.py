"""Texts as token ids, and token ids as padded batches of similar length."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.locate import EXCLUSIVE

TokenBatch = tuple[list[int], Tensor, Tensor]
"""Positions of some of the texts, and their ids and mask: int64 [B, L] on the CPU."""


def token_ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    """Token ids of each text. Raises `BadInput` with the number of one with half a surrogate pair."""
    if not texts:
        return []
    options = {"return_attention_mask": False, "return_token_type_ids": False, **options}
    try:
        with EXCLUSIVE:
            ids: list[list[int]] = tokenizer(list(texts), **options)["input_ids"]
    except TypeError as error:
        wrong = [i for i, text in enumerate(texts) if any("\ud800" <= character <= "\udfff" for character in text)]
        if not wrong:
            raise
        problem = f"text number {wrong[0]} (from 0) has half a surrogate pair"
        raise BadInput(problem, remedy="repair or drop it") from error
    return ids


def pieces(tokenizer: Any, text: str, tokens: int) -> list[str]:
    """Split a text between tokens into pieces of at most `tokens` tokens; a short one stays as it is."""
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
    with EXCLUSIVE:
        spans = tokenizer(text, truncation=False, **options)["offset_mapping"]
    starts = [0, *(spans[first][0] for first in range(tokens, len(spans), tokens)), len(text)]
    return [text[start:stop] for start, stop in itertools.pairwise(starts) if start < stop] or [text]


def padded(rows: Sequence[Sequence[int]], value: int, *, pinned: bool = False) -> tuple[Tensor, Tensor]:
    """Right-pad ids with `value` to the longest row; return them and their mask, int64 [B, L] on the CPU."""
    length_B = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    mask_BL = np.arange(length_B.max()) < length_B[:, None]
    ids_BL = np.full(mask_BL.shape, value, dtype=np.int64)
    flat = itertools.chain.from_iterable(rows)
    ids_BL[mask_BL] = np.fromiter(flat, dtype=np.int64, count=int(length_B.sum()))
    ids, mask = torch.from_numpy(ids_BL), torch.from_numpy(mask_BL.astype(np.int64))
    return (ids.pin_memory(), mask.pin_memory()) if pinned else (ids, mask)


def length_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group positions so that (texts x longest text) stays within `budget` tokens, longest first."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
