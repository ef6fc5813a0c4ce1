"""The state of B rows between two forwards, in buffers with fixed addresses."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from perank.model import PERank
from perank.ranking.decoder import WindowBatch


@dataclass(frozen=True, slots=True)
class Bucket:
    """Shapes of one set of buffers (and one CUDA graph); smaller windows are padded.

    `nodes` are the draft tokens per row, `levels` is the maximum depth of a draft in ranks, `deepest` the maximum
    number of ranks requested after the first.
    """

    rows: int
    prompt: int
    passages: int
    nodes: int
    deepest: int
    levels: int
    query: bool

    @property
    def entries(self) -> int:
        """KV entries of accepted tokens per row: the prompt, the ranks, and entries written after them but not read."""
        return self.prompt + self.passages + self.levels


@dataclass(slots=True)
class State:
    """Inputs of B windows and the progress of their rankings. X is N + 1: the last column receives discarded writes.

    ids_BL, length_B, slots_BN, query_slot_B: the prompts (slots of L: none); steps_B: ranks to decide; projected_BND:
    vectors for scores; tokens_BND: vectors as LLM input. `open_BN` aren't ranked yet; `order_BX` and `margin_BX` hold
    the first `ranked_B` ranks and one more margin; `scores_BN` decide the next rank and order the rest; `change_B` is
    the moving average of the standard deviation of the scores' changes. For anchored scores: `ranks_BN` in the first
    stage, `first_BE` the sum of its best vectors, `sum_BE` that of the ranked ones.
    """

    ids_BL: Tensor
    length_B: Tensor
    slots_BN: Tensor
    query_slot_B: Tensor
    vectors_BNE: Tensor
    query_BE: Tensor
    ranks_BN: Tensor
    first_BE: Tensor
    sum_BE: Tensor
    steps_B: Tensor
    projected_BND: Tensor
    tokens_BND: Tensor
    open_BN: Tensor
    scores_BN: Tensor
    order_BX: Tensor
    margin_BX: Tensor
    ranked_B: Tensor
    change_B: Tensor
    forwards_B: Tensor
    processed_B: Tensor

    @classmethod
    def empty(cls, model: PERank, bucket: Bucket) -> State:
        """Allocate empty rows with no ranks to decide."""
        table = model.llm.get_input_embeddings().weight
        rows, n, width = bucket.rows, bucket.passages, table.shape[1]
        exact = torch.promote_types(table.dtype, torch.float32)
        made = table.new_zeros
        return cls(
            ids_BL=made(rows, bucket.prompt, dtype=torch.long),
            length_B=made(rows, dtype=torch.long) + 1,
            slots_BN=made(rows, n, dtype=torch.long) + bucket.prompt,
            query_slot_B=made(rows, dtype=torch.long) + bucket.prompt,
            vectors_BNE=made(rows, n, model.projector.width_in, dtype=exact),
            query_BE=made(rows, model.projector.width_in, dtype=exact),
            ranks_BN=made(rows, n, dtype=torch.long),
            first_BE=made(rows, model.projector.width_in, dtype=exact),
            sum_BE=made(rows, model.projector.width_in, dtype=exact),
            steps_B=made(rows, dtype=torch.long),
            projected_BND=made(rows, n, width, dtype=model.projector.dtype),
            tokens_BND=made(rows, n, width),
            open_BN=made(rows, n, dtype=torch.bool),
            scores_BN=made(rows, n, dtype=exact),
            order_BX=made(rows, n + 1, dtype=torch.long),
            margin_BX=made(rows, n + 1, dtype=exact),
            ranked_B=made(rows, dtype=torch.long),
            change_B=made(rows, dtype=exact),
            forwards_B=made(rows, dtype=torch.long),
            processed_B=made(rows, dtype=torch.long),
        )

    @property
    def running(self) -> Tensor:
        """Rows with undecided ranks; the rank after the ranked ones is already decided by the current scores."""
        return self.ranked_B + 1 < self.steps_B

    def copy_rows(self, rows: Tensor, other: State, others: Tensor) -> None:
        """Copy rows `others` of another state, of the same prompt length and passages, to `rows`."""
        for name in (field.name for field in fields(self)):
            getattr(self, name)[rows] = getattr(other, name)[others]

    def fill(self, windows: WindowBatch) -> None:
        """Copy these windows, whose shapes may be smaller, to the first rows; the others get no ranks to decide."""
        prompts, (batch, n) = windows.prompts, windows.candidates_BN.shape
        nowhere, slots = self.ids_BL.shape[1], prompts.slots_BN.shape[1]
        length = min(prompts.ids_BL.shape[1], nowhere)
        for buffer, empty in ((self.steps_B, 0), (self.length_B, 1), (self.ids_BL, 0), (self.open_BN, 0)):
            buffer.fill_(empty)
        self.steps_B[:batch] = torch.tensor(windows.steps, device=self.steps_B.device)
        self.length_B[:batch] = prompts.length_B
        self.ids_BL[:batch, :length] = prompts.ids_BL[:, :length]
        self.slots_BN.fill_(nowhere)
        self.slots_BN[:batch, :slots] = prompts.slots_BN.masked_fill(prompts.slots_BN < 0, nowhere)
        self.query_slot_B[:batch] = prompts.query_slot_B.masked_fill(prompts.query_slot_B < 0, nowhere)
        self.vectors_BNE[:batch, :n] = windows.vectors_BNE
        self.open_BN[:batch, :n] = windows.candidates_BN
        if windows.query_BE is not None:
            self.query_BE[:batch] = windows.query_BE
        if (origin := windows.origin) is not None:
            self.ranks_BN[:batch, :n] = origin.ranks_BN
            self.first_BE[:batch] = origin.ranked_BKE[:, 0]
