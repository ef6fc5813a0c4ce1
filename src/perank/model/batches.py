"""What the backbone reads: padded id tensors and the places of the vectors in them. Plain tensors, easy to move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from perank.model.prompts import Prompt

IGNORE = -100  # a target where no token is predicted, as torch's cross entropy has it


class Batch:
    """A dataclass of tensors, nested batches and plain values."""

    def to(self, device: torch.device | str) -> Self:
        """A copy whose tensors are on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{k: v.to(device) if hasattr(v, "to") else v for k, v in moved.items()})


@dataclass(frozen=True, slots=True)
class PromptBatch(Batch):
    """`ids_BL` right-padded, `length_B` true lengths, `slots_BN` vector positions (-1: none), `query_slot_B` too."""

    ids_BL: Tensor
    length_B: Tensor
    slots_BN: Tensor
    query_slot_B: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> PromptBatch:
        """Stack prompts of any lengths and numbers of slots."""
        return cls(
            ids_BL=padded([p.ids for p in prompts], 0),
            length_B=torch.tensor([len(p) for p in prompts]),
            slots_BN=padded([p.slots for p in prompts], -1),
            query_slot_B=torch.tensor([-1 if p.query_slot is None else p.query_slot for p in prompts]),
        )


@dataclass(frozen=True, slots=True)
class RankBatch(Batch):
    """Rows of stage 2: prompts, passage vectors in prompt order, the gold order of the first K ranks.

    vectors_BNE fp32, candidates_BN bool (False: padding), order_BK (-1: padding), query_BE the query's own vector.
    """

    prompt: PromptBatch
    vectors_BNE: Tensor
    candidates_BN: Tensor
    order_BK: Tensor
    query_BE: Tensor | None = None
    content: PromptBatch | None = None


@dataclass(frozen=True, slots=True)
class AlignBatch(Batch):
    """Rows of stage 1: instruction + answer ids, one vector a row, targets with -100 where no token is predicted."""

    prompt: PromptBatch
    vectors_BNE: Tensor
    targets_BL: Tensor


@dataclass(frozen=True, slots=True)
class AnswerBatch(Batch):
    """Prompts with texts and their answers as one sequence, right-padded; targets are -100 where none is predicted."""

    ids_BL: Tensor
    targets_BL: Tensor


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of integers, right-padded with `value` to the longest."""
    width = max(map(len, rows), default=0)
    filled = [[*row, *([value] * (width - len(row)))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).view(len(rows), width)
