"""The reading stage, before stage 2: the LLM learns to turn a query's words into a vector.

What costs stage 2 its rows is that a language model's last position has to learn to collect a text. Here a row is one
short prompt and its target vector t: h_1 . E_M(e) has to be t . e among the passages of the whole batch. The projector
is frozen. It also fills the prompt's slots, so what an LLM reads there stays the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perank.model import PERank, ReadBatch
from perank.training.optimizer import AdamW
from perank.training.stage import Stage


class ReadModule(Stage):
    """Train the LLM to read: its layers, and neither its embeddings nor the projector."""

    model: PERank

    def __init__(self, model: PERank, optimizer: AdamW) -> None:
        super().__init__(model, optimizer)
        model.projector.requires_grad_(False)
        if model.anchors is not None:
            model.anchors.requires_grad_(False)
        model.llm.get_input_embeddings().requires_grad_(False)  # words keep their vectors: few are in the rows
        if (head := model.llm.get_output_embeddings()) is not None:
            head.requires_grad_(False)

    def set_modes(self) -> None:
        self.model.llm.train()
        self.model.projector.eval()

    def training_step(self, batch: ReadBatch, index: int) -> Tensor:
        with self.autocast():
            hidden_BD = self.model.read(batch.prompt, batch.vectors_BNE, batch.query_BE)
        loss = read_loss(self.model, hidden_BD, batch.vectors_BNE.flatten(0, 1), batch.target_BE)
        self.log_terms({"loss": loss, "explained": 1 - loss.detach()}, len(batch.target_BE))
        return loss


def read_loss(model: PERank, hidden_BD: Tensor, vectors_XE: Tensor, target_BE: Tensor) -> Tensor:
    """The error of h_1's scores among passages, as a share of the variance that the targets give them; a scalar."""
    scores_BX, wanted_BX = read_scores(model, hidden_BD, vectors_XE, target_BE)
    loss: Tensor = (scores_BX - wanted_BX).square().mean() / wanted_BX.square().mean()
    return loss


def read_scores(model: PERank, hidden_BD: Tensor, vectors_XE: Tensor, target_BE: Tensor) -> tuple[Tensor, Tensor]:
    """The LLM's scores of passages, and those of the targets, [B, X], each less its mean over the passages."""
    scores_BX = model.score_scale * hidden_BD.float() @ model.project(vectors_XE).float().T
    wanted_BX = target_BE @ vectors_XE.T
    return scores_BX - scores_BX.mean(1, keepdim=True), wanted_BX - wanted_BX.mean(1, keepdim=True)


@torch.no_grad()
def even_scores(model: PERank, hidden_QD: Tensor, targets_QE: Tensor, passages_XE: Tensor) -> float:
    """Scale the final norm, then `score_scale`, to begin at what h_1 [Q, D] says; return the share explained.

    The norm makes h vary about equally in all dimensions: a few have a hundred times the mean and deviation of the
    others, and one learning rate fits them all only afterwards.
    """
    mean_D, deviation_D = hidden_QD.mean(0), hidden_QD.std(0)
    scale_D = deviation_D / (deviation_D.square() + 0.1 * mean_D.square()).clamp(min=1e-12)
    scale_D = scale_D / (hidden_QD * scale_D).std(0).square().mean().sqrt()
    norm: Any = model.decoder.norm
    norm.weight.mul_(scale_D.to(norm.weight))
    model.score_scale.fill_(1.0)
    scores_QX, wanted_QX = read_scores(model, hidden_QD * scale_D, passages_XE, targets_QE)
    model.score_scale.fill_((scores_QX * wanted_QX).sum() / scores_QX.square().sum())
    return float(1 - (model.score_scale * scores_QX - wanted_QX).square().sum() / wanted_QX.square().sum())
