"""Stage 2: train LLM and projector to rank with ListMLE, with and without texts, and the KL between them (Eq. 5 to 8).

Optionally also distils the encoder's similarities to all passages in the batch (`RankLoss.distil`).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from perank.model import BatchPassages, PERank, RankBatch, RankLoss
from perank.training.optimizer import AdamW
from perank.training.stage import Stage


class RankModule(Stage):
    """Train the LLM (or its adapters) and the projector. The prompt with texts runs only if the loss needs it."""

    model: PERank

    def __init__(self, model: PERank, loss: RankLoss, optimizer: AdamW) -> None:
        super().__init__(model, optimizer)
        self.loss = loss
        head, tokens = model.llm.get_output_embeddings(), model.llm.get_input_embeddings()
        if head is not None and head.weight is not tokens.weight:
            head.requires_grad_(False)  # scores bypass the vocabulary head, so DDP would wait for its gradients

    def set_modes(self) -> None:
        self.model.train()  # Hugging Face loads in eval mode, and Lightning keeps the mode

    def training_step(self, batch: RankBatch, index: int) -> Tensor:
        prompts = [batch.prompt, batch.content] if self.loss.needs_content else [batch.prompt]
        with self.autocast():
            hidden, projected_BND = self.model.step_states(batch, prompts)
            origin, of = self.model.forced(batch), (projected_BND, batch.vectors_BNE, batch.query_BE)
            scores = [self.model.score(h_BKD, *of, origin) for h_BKD in hidden]
            passages = self._passages(hidden[0], projected_BND, batch) if self.loss.needs_query_vectors else None
        content_BKN = scores[1] if self.loss.needs_content else None
        terms = self.loss(scores[0], content_BKN, batch.order_BK, batch.candidates_BN, passages)
        self.log_terms(terms, len(batch.order_BK))
        return terms["loss"]

    def _passages(self, hidden_BKD: Tensor, projected_BND: Tensor, batch: RankBatch) -> BatchPassages:
        """Score all rows' passages at every step, for the distillation loss.

        Anchors count, except ranks in the first stage: a query's list doesn't rank the passages of other rows.
        """
        if batch.query_BE is None:
            raise ValueError("the batch has no query vectors")
        projected_XD, vectors_XE = projected_BND.flatten(0, 1), batch.vectors_BNE.flatten(0, 1)
        if (origin := self.model.forced(batch)) is not None:
            origin = replace(origin, ranks_BN=origin.ranks_BN.new_zeros(1, len(vectors_XE)))
        scores_BKX = self.model.score(hidden_BKD, projected_XD, vectors_XE, batch.query_BE, origin)
        return BatchPassages(scores_BKX, batch.vectors_BNE, batch.query_BE)
