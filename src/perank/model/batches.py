"""The LLM's input batches: padded id tensors and the positions of the vectors in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from perank.model.prompts import Prompt

IGNORE = -100  # target where no token is predicted: the default of torch's cross entropy


class Batch:
    """A dataclass of tensors, nested batches and plain values."""

    def to(self, device: torch.device | str) -> Self:
        """Return a copy with all tensors on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{k: v.to(device) if hasattr(v, "to") else v for k, v in moved.items()})


@dataclass(frozen=True, slots=True)
class PromptBatch(Batch):
    """Right-padded `ids_BL`, true lengths `length_B`, vector positions `slots_BN` and `query_slot_B` (-1: none)."""

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
class Origin(Batch):
    """Where windows come from: `ranks_BN` of their passages in the first stage (from 0, any number at padding).

    `ranked_BKE` is the sum of the vectors ranked before each step; before the first, that of the first stage's best.
    """

    ranks_BN: Tensor
    ranked_BKE: Tensor

    def rows(self, index: Tensor | slice) -> Origin:
        """Select rows."""
        return Origin(self.ranks_BN[index], self.ranked_BKE[index])


@dataclass(frozen=True, slots=True)
class RankBatch(Batch):
    """Rows of stage 2: prompts, passage vectors in prompt order, the gold order of the first K ranks.

    vectors_BNE fp32, candidates_BN bool (False: padding), order_BK (-1: padding), query_BE the query's own vector,
    `origin` that of the first step.
    """

    prompt: PromptBatch
    vectors_BNE: Tensor
    candidates_BN: Tensor
    order_BK: Tensor
    query_BE: Tensor | None = None
    content: PromptBatch | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class AlignBatch(Batch):
    """Rows of stage 1: instruction + answer ids, one vector per row, targets of -100 where no token is predicted."""

    prompt: PromptBatch
    vectors_BNE: Tensor
    targets_BL: Tensor


@dataclass(frozen=True, slots=True)
class ReadBatch(Batch):
    """Rows of the reading stage: prompts, vectors at their slots [B, N, E], and each query's target [B, E].

    `query_BE` are the queries' own vectors, for prompts with a slot for them.
    """

    prompt: PromptBatch
    vectors_BNE: Tensor
    target_BE: Tensor
    query_BE: Tensor | None = None


@dataclass(frozen=True, slots=True)
class AnswerBatch(Batch):
    """Prompts with texts followed by their answers, right-padded; targets are -100 where no token is predicted."""

    ids_BL: Tensor
    targets_BL: Tensor


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Right-pad rows of integers with `value` to the longest."""
    width = max(map(len, rows), default=0)
    filled = [[*row, *([value] * (width - len(row)))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).view(len(rows), width)
