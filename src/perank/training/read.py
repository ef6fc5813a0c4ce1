"""The reading stage, before stage 2: the LLM learns to turn a query's words into a vector in the encoder's space.

What costs stage 2 its rows is that a language model's last position has to learn to collect a text. Here a row is one
short prompt and its target vector t, and the error counts as it changes passage scores: |(A h - t) S^(1/2)|^2 with the
covariance S of the passages' vectors, as a share of the targets' variance. A is trained along, and afterwards the
projector is fitted so that score_scale * h . E_M(e) estimates t . (e - mean e).

The projector also fills the prompt's slots, so its fit changes what an LLM reads whose prompt has the query's vector.
`tied` trains on with the fitted projector in A's place: the error is that of the scores of the batch's passages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perank.model import PERank, ReadBatch, ridge
from perank.training.optimizer import AdamW
from perank.training.stage import Stage


@dataclass(frozen=True, slots=True)
class ReadMetric:
    """S^(1/2) [E, E], the targets' mean [E], their standard deviation per entry, and their variance in this metric."""

    root_EE: Tensor
    mean_E: Tensor
    deviation: float
    variance: float

    @classmethod
    def of(cls, passages_XE: Tensor, targets_QE: Tensor) -> ReadMetric:
        """Measure samples of passages' vectors and targets."""
        centred_XE = (passages_XE - passages_XE.mean(0)).double()
        values_E, basis_EE = torch.linalg.eigh(centred_XE.T @ centred_XE / len(centred_XE))
        root_EE = ((basis_EE * values_E.clamp(min=0).sqrt()) @ basis_EE.T).float()
        mean_E = targets_QE.mean(0)
        centred_QE = targets_QE - mean_E
        variance = float((centred_QE @ root_EE).square().sum(1).mean())
        return cls(root_EE, mean_E, float(centred_QE.square().mean().sqrt()), variance)


class ReadModule(Stage):
    """Train the LLM to read; the projector is frozen. Unless the stage is `tied`, it only fills the prompt's slots."""

    model: PERank
    root_EE: Tensor
    mean_E: Tensor

    def __init__(self, model: PERank, metric: ReadMetric, optimizer: AdamW, *, tied: bool = False) -> None:
        super().__init__(model, optimizer)
        self.tied = tied
        model.projector.requires_grad_(False)
        if model.anchors is not None:
            model.anchors.requires_grad_(False)
        model.llm.get_input_embeddings().requires_grad_(False)  # words keep their vectors: few are in the rows
        if (head := model.llm.get_output_embeddings()) is not None:
            head.requires_grad_(False)
        if not tied:
            self.head = nn.Linear(model.llm.get_input_embeddings().embedding_dim, model.projector.width_in)
        self.variance, self.deviation = metric.variance, metric.deviation  # the head works in units of the deviation
        self.register_buffer("root_EE", metric.root_EE, persistent=False)
        self.register_buffer("mean_E", metric.mean_E, persistent=False)

    @torch.no_grad()
    def start(self, hidden_QD: Tensor, targets_QE: Tensor) -> None:
        """Begin at the ridge regression from h to the targets, on a sample of texts.

        The final norm is scaled first, so that h varies about equally in all dimensions: a few have a hundred times the
        mean and deviation of the others, and one learning rate fits them all only afterwards.
        """
        mean_D, deviation_D = hidden_QD.mean(0), hidden_QD.std(0)
        scale_D = deviation_D / (deviation_D.square() + 0.1 * mean_D.square()).clamp(min=1e-12)
        scale_D = scale_D / (hidden_QD * scale_D).std(0).square().mean().sqrt()
        norm: Any = self.model.decoder.norm
        norm.weight.mul_(scale_D.to(norm.weight))
        scaled_QD = (hidden_QD * scale_D).double()
        centred_QE = ((targets_QE - self.mean_E) / self.deviation).double()
        map_DE = ridge(scaled_QD - scaled_QD.mean(0), centred_QE, strength=1e-2)
        self.head.weight.copy_(map_DE.T)
        self.head.bias.copy_(-scaled_QD.mean(0) @ map_DE)

    def set_modes(self) -> None:
        self.model.llm.train()
        self.model.projector.eval()

    def training_step(self, batch: ReadBatch, index: int) -> Tensor:
        with self.autocast():
            hidden_BD = self.model.read(batch.prompt, batch.vectors_BNE, batch.query_BE)
        loss = self._tied_loss(hidden_BD.float(), batch) if self.tied else self._loss(hidden_BD.float(), batch)
        self.log_terms({"loss": loss, "explained": 1 - loss.detach()}, len(batch.target_BE))
        return loss

    def _loss(self, hidden_BD: Tensor, batch: ReadBatch) -> Tensor:
        error_BE = self.deviation * self.head(hidden_BD) + self.mean_E - batch.target_BE
        loss: Tensor = (error_BE @ self.root_EE).square().sum(1).mean() / self.variance
        return loss

    def _tied_loss(self, hidden_BD: Tensor, batch: ReadBatch) -> Tensor:
        """The error of scores among all passages of the batch, as a share of the variance that targets give them.

        What all targets share, a preference among passages whatever the query, counts here: `fit_reader` leaves it out.
        """
        vectors_XE = batch.vectors_BNE.flatten(0, 1)
        scores_BX = self.model.score_scale * hidden_BD @ self.model.project(vectors_XE).float().T
        wanted_BX = batch.target_BE @ vectors_XE.T
        wanted_BX = wanted_BX - wanted_BX.mean(1, keepdim=True)
        error_BX = scores_BX - scores_BX.mean(1, keepdim=True) - wanted_BX
        return error_BX.square().mean() / wanted_BX.square().mean()
