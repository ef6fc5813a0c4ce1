"""B windows in front of the LLM: candidates are fed by their positions, scores over all N candidates come back."""

from __future__ import annotations

import torch
from torch import Tensor

from perank.decoding.memory import Memory
from perank.errors import BadInput
from perank.model.backbone import PERank
from perank.model.batches import PromptBatch
from perank.model.splice import splice


class Reader:
    """Projects the vectors once, reads the prompts once, then takes ranks; `ranks` is the most it will be fed a row.

    Scores are those of `PERank.score`, fp32 or wider. Raises what `Memory` raises.
    """

    def __init__(
        self, model: PERank, prompts: PromptBatch, vectors_BNE: Tensor, query_BE: Tensor | None, *, ranks: int
    ) -> None:
        self.model, self.vectors_BNE, self.query_BE = model, vectors_BNE, query_BE
        self.projected_BND = model.project(vectors_BNE)
        query_BD = None if query_BE is None else model.project(query_BE)
        self._embedded_BLD = model.embed(prompts, self.projected_BND, query_BD)
        self.length_B, self.longest = prompts.length_B, prompts.ids_BL.shape[1]
        self.memory = Memory(model, self.longest + ranks)
        self._finite = torch.ones((), dtype=torch.bool, device=vectors_BNE.device)

    def read(self, draft_BK: Tensor | None = None) -> Tensor:
        """scores_BKN behind the prompt and behind each rank of a draft, [B, 1 + K, N]; the draft's -1 is padding."""
        embedded_BLD, ahead = self._embedded_BLD, 0 if draft_BK is None else draft_BK.shape[1]
        at_BK = self.length_B[:, None] - 1 + torch.arange(1 + ahead, device=self.length_B.device)
        if draft_BK is not None:
            room_BKD = embedded_BLD.new_zeros(len(at_BK), ahead, embedded_BLD.shape[2])
            embedded_BLD = splice(torch.cat([embedded_BLD, room_BKD], dim=1), at_BK[:, 1:], self._vectors(draft_BK))
        hidden_BLD = self.memory.read(embedded_BLD)
        return self._scores(hidden_BLD.gather(1, at_BK[..., None].expand(-1, -1, hidden_BLD.shape[2])))

    def feed(self, chosen_BK: Tensor, rank_BK: Tensor, *, reach: int) -> Tensor:
        """scores_BKN behind candidates `chosen_BK` put at ranks `rank_BK` (from 0; -1: padding), all below `reach`."""
        at_BK = torch.where(rank_BK < 0, -1, self.length_B[:, None] + rank_BK)
        return self._scores(self.memory.append(self._vectors(chosen_BK), at_BK, self.longest + reach))

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only (ascending)."""
        if len(rows) == len(self.length_B):
            return
        self.memory.keep(rows)
        self.length_B, self.projected_BND = self.length_B[rows], self.projected_BND[rows]
        self.vectors_BNE = self.vectors_BNE[rows]
        self.query_BE = None if self.query_BE is None else self.query_BE[rows]

    def check(self) -> None:
        """Raises `BadInput` where a score overflowed."""
        if not bool(self._finite):
            remedy = "run it in float32 or bfloat16, or check its weights"
            raise BadInput("the model's scores are not finite", remedy=remedy)

    def _vectors(self, chosen_BK: Tensor) -> Tensor:
        index_BKD = chosen_BK.clamp(min=0)[..., None].expand(-1, -1, self.projected_BND.shape[2])
        return self.projected_BND.gather(1, index_BKD).to(self._embedded_BLD.dtype)

    def _scores(self, hidden_BKD: Tensor) -> Tensor:
        scores_BKN = self.model.score(hidden_BKD, self.projected_BND, self.vectors_BNE, self.query_BE)
        self._finite &= scores_BKN.isfinite().all()
        return scores_BKN
