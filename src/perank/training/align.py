"""Stage 1: train the projector so that a frozen LLM reconstructs a text from its embedding (Eq. 2 and 3)."""

from __future__ import annotations

from torch import Tensor

from perank.model import IGNORE, AlignBatch, PERank, recompute_frozen_layers
from perank.training.optimizer import AdamW
from perank.training.stage import Stage


class AlignModule(Stage):
    """Train only the projector; the LLM is frozen and drops nothing out."""

    model: PERank

    def __init__(self, model: PERank, optimizer: AdamW) -> None:
        super().__init__(model, optimizer)
        model.llm.requires_grad_(False)
        model.projector.requires_grad_(True)

    def set_modes(self) -> None:
        self.model.llm.eval()
        recompute_frozen_layers(self.model.llm)
        self.model.projector.train()

    def training_step(self, batch: AlignBatch, index: int) -> Tensor:
        with self.autocast():
            loss = self.model.reconstruction_loss(batch)
        loss = loss * self.token_share((batch.targets_BL != IGNORE).sum())
        self.log_terms({"loss": loss}, len(batch.targets_BL))
        return loss
