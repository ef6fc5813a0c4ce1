"""RankMistral's training: a causal LM learns to generate the teacher's order after a prompt with texts (Table 10).

The authors did not publish the recipe. This is PE-Rank's second stage on the same rows, with texts in place of vectors
and the language-modelling loss in place of ListMLE.
"""

from __future__ import annotations

from torch import Tensor

from perank.model import IGNORE, AnswerBatch, TextRanker
from perank.training.stage import Stage


class ListwiseModule(Stage):
    """Train the LLM or its adapters."""

    model: TextRanker

    def set_modes(self) -> None:
        self.model.train()

    def training_step(self, batch: AnswerBatch, index: int) -> Tensor:
        with self.autocast():
            loss = self.model.answer_loss(batch)
        loss = loss * self.token_share((batch.targets_BL != IGNORE).sum())
        self.log_terms({"loss": loss}, len(batch.targets_BL))
        return loss
