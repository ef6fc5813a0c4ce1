"""Stage 2: LLM and projector learn to rank: ListMLE with and without texts, and the KL between them (Eq. 5 to 8).

On request, also what the encoder thinks of all passages in a batch (`RankLoss.distil`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from perank.model.batches import RankBatch
from perank.model.losses import RankLoss, distillation, remaining
from perank.model.pe_rank import PERank
from perank.training.optimizer import AdamW
from perank.training.stage import Stage


class RankModule(Stage):
    """Trains the LLM (or its adapters) and the projector. The prompt with texts runs only if the loss asks for it."""

    model: PERank

    def __init__(self, model: PERank, loss: RankLoss, optimizer: AdamW) -> None:
        super().__init__(model, optimizer)
        self.loss = loss
        head, tokens = model.llm.get_output_embeddings(), model.llm.get_input_embeddings()
        if head is not None and head.weight is not tokens.weight:
            head.requires_grad_(False)  # scores never pass the vocabulary head: it would wait for gradients for ever

    def set_modes(self) -> None:
        self.model.train()  # Hugging Face loads in eval mode, and Lightning keeps what it finds

    def training_step(self, batch: RankBatch, index: int) -> Tensor:
        with self.autocast():
            hidden_BKD, projected_BND = self.model.step_states(batch)
            scores_BKN = self.model.score(hidden_BKD, projected_BND, batch.vectors_BNE, batch.query_BE)
            content_BKN = self.model.step_scores(batch, with_content=True) if self.loss.needs_content else None
        terms = self.loss(scores_BKN, content_BKN, batch.order_BK, batch.candidates_BN)
        if self.loss.needs_query_vectors:
            terms["distil"] = self._distillation(hidden_BKD, projected_BND, batch)
            terms["loss"] = terms["loss"] + self.loss.distil * terms["distil"]
        self.log_terms(terms, len(batch.order_BK))
        return terms["loss"]

    def _distillation(self, hidden_BKD: Tensor, projected_BND: Tensor, batch: RankBatch) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            steps_BK = distillation(
                self.model.scores_across(hidden_BKD, projected_BND, batch),
                batch.similarities_across(self.loss.feedback),
                batch.remaining_across(remaining(batch.order_BK, batch.candidates_BN)),
                self.loss.temperature,
            )
        trained_BK = batch.order_BK >= 0
        return (steps_BK * trained_BK).sum() / trained_BK.sum()
