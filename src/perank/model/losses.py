"""The losses as pure functions of step scores in fp32 (Eq. 4 to 8) and of token logits (Eq. 3).

`scores_BKN[b, i, j]` is h_i . E_M(e_j): step i of row b, candidate j in prompt order. `order_BK[b, i]` is the
candidate of gold rank i. At step i only candidates not yet ranked compete. K = N steps, or fewer when only
the top of the ranking is trained. Masked entries contribute 0, never NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from perank.errors import BadInput
from perank.model.batches import IGNORE

_REDUCTIONS = ("sum", "mean")
BLOCK = 1024  # positions whose logits, the largest tensor of a step, are held at once; recomputed in the backward pass


def reconstruction(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Eq. 3 as a mean over the target tokens of the batch; targets of -100 are ignored."""
    return torch.nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), targets_BT.flatten())


def token_loss(llm: Any, hidden_BLD: Tensor, targets_BL: Tensor) -> Tensor:
    """Mean cross entropy over all targets that aren't -100; the hidden state at l - 1 predicts the target at l."""
    predicted_BL = targets_BL[:, 1:] != IGNORE
    hidden_XD, targets_X = hidden_BLD[:, :-1][predicted_BL], targets_BL[:, 1:][predicted_BL]
    blocks = zip(hidden_XD.split(BLOCK), targets_X.split(BLOCK), strict=True)
    sums = [checkpoint(_summed, llm, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    return torch.stack(sums).sum() / len(targets_X)


def vocabulary_logits(llm: Any, hidden_XD: Tensor) -> Tensor:
    """Return what a causal LM makes of its last hidden states: [X, V], with the scaling or cap of its family."""
    logits_XV, config = llm.get_output_embeddings()(hidden_XD), llm.config
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits_XV = logits_XV * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits_XV = logits_XV / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        logits_XV = torch.tanh(logits_XV / cap) * cap
    return logits_XV


def _summed(llm: Any, hidden_XD: Tensor, targets_X: Tensor) -> Tensor:
    return reconstruction(vocabulary_logits(llm, hidden_XD)[None], targets_X[None]) * len(targets_X)


def remaining(order_BK: Tensor, candidates_BN: Tensor) -> Tensor:
    """[B, K, N]: whether candidate j still competes at step i (Eq. 4's denominator)."""
    taken_BKN = torch.nn.functional.one_hot(order_BK.clamp(min=0), candidates_BN.shape[1]).bool()
    taken_BKN &= (order_BK >= 0)[..., None]
    before_BKN = taken_BKN.cumsum(1) - taken_BKN.long()
    return candidates_BN[:, None, :] & (before_BKN == 0)


def log_probabilities(scores_BKN: Tensor, remaining_BKN: Tensor) -> Tensor:
    """Log of Eq. 4 in fp32; -inf at candidates that no longer compete. Steps without any candidate give -inf."""
    masked = scores_BKN.float().masked_fill(~remaining_BKN, -torch.inf)
    return masked - masked.logsumexp(-1, keepdim=True).clamp(min=-1e30)


def listmle(logp_BKN: Tensor, order_BK: Tensor) -> Tensor:
    """Eq. 5 and 6, per step: -log P(p_i | q, p_<i), [B, K]; 0 where the order is padded (-1)."""
    picked = logp_BKN.gather(-1, order_BK.clamp(min=0)[..., None]).squeeze(-1)
    return torch.where(order_BK >= 0, -picked, 0.0)


def kl(logp_BKN: Tensor, logq_BKN: Tensor, remaining_BKN: Tensor) -> Tensor:
    """KL(p || q) per step, [B, K]; candidates that no longer compete contribute 0."""
    p, q = (torch.where(remaining_BKN, logs, 0.0) for logs in (logp_BKN, logq_BKN))
    return torch.where(remaining_BKN, p.exp() * (p - q), 0.0).sum(-1)


@dataclass(frozen=True, slots=True)
class BatchPassages:
    """The passages of all B rows, X = B * N, scored by each row's steps and its query for distillation.

    Not in the paper: all passages of a batch give a richer target distribution than a row's 20.
    """

    scores_BKX: Tensor
    vectors_BNE: Tensor
    query_BE: Tensor

    def similarities(self, feedback: Sequence[float] = ()) -> Tensor:
        """[B, X]: the encoder's similarity of each row's query to all passages.

        `feedback[i]` is the weight with which the row's passage i is added to its query's vector.
        """
        first, query_BE = list(feedback)[: self.vectors_BNE.shape[1]], self.query_BE
        weights = torch.tensor(first, dtype=query_BE.dtype, device=query_BE.device)
        moved_BE = query_BE + (self.vectors_BNE[:, : len(weights)] * weights[:, None]).sum(1)
        with torch.autocast(moved_BE.device.type, enabled=False):
            return moved_BE @ self.vectors_BNE.flatten(0, 1).T

    def remaining(self, remaining_BKN: Tensor, candidates_BN: Tensor) -> Tensor:
        """[B, K, X]: all passages of other rows, and a row's own passages that still compete at the step."""
        rows, steps, n = remaining_BKN.shape
        everyone_BKBN = candidates_BN.expand(rows, steps, rows, n).clone()
        own = torch.arange(rows, device=remaining_BKN.device)
        everyone_BKBN[own, :, own] = remaining_BKN
        return everyone_BKBN.flatten(2)


def distillation(scores_BKX: Tensor, similarities_BX: Tensor, remaining_BKX: Tensor, temperature: float) -> Tensor:
    """KL(encoder || LLM) per step over X passages, [B, K]; passages that no longer compete contribute 0.

    The encoder's distribution is the softmax of similarity / `temperature`, the LLM's that of the step's scores.
    """
    similarities_BKX = (similarities_BX / temperature)[:, None].expand_as(scores_BKX)
    return kl(
        log_probabilities(similarities_BKX, remaining_BKX), log_probabilities(scores_BKX, remaining_BKX), remaining_BKX
    )


@dataclass(frozen=True, kw_only=True)
class RankLoss:
    """Eq. 8: rank * L_rank + content * L_content + alpha * L_KL, with options for what the paper leaves open.

    `reduction` (cross entropies) and `kl_reduction` (KL) over the steps of a row are "sum", as in Eq. 5 to 7, or
    "mean"; rows of a batch are averaged. `direction`: "embeddings_content" is KL(P_embeddings || P_content) as in
    Eq. 7, "content_embeddings" is what the authors' code computes. `detach_teacher` stops the KL's gradient at the
    content side. `first_weight` multiplies the cross entropy of the first rank.

    Not in the paper: `distil` is the weight of `distillation` of the encoder over the batch's passages at `temperature`
    (0: off). The target is the encoder's similarity to the query's vector plus the prompt's first passages weighted by
    `feedback`: Rocchio's pseudo relevance feedback, if the prompt keeps the first stage's order. Raises `BadInput` for
    unknown options, negative weights, a temperature not above 0, and feedback without distillation.
    """

    rank: float = 1.0
    content: float = 1.0
    alpha: float = 0.2
    reduction: str = "sum"
    kl_reduction: str = "sum"
    direction: str = "embeddings_content"
    detach_teacher: bool = False
    first_weight: float = 1.0
    distil: float = 0.0
    temperature: float = 0.05
    feedback: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rank", "content", "alpha", "first_weight", "distil"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"the weight is {getattr(self, name)}", remedy="use 0 or more", id=f"loss.{name}")
        directions = ("embeddings_content", "content_embeddings")
        for name, known in {"reduction": _REDUCTIONS, "kl_reduction": _REDUCTIONS, "direction": directions}.items():
            if (value := getattr(self, name)) not in known:
                raise BadInput(f"unknown option {value!r}", remedy=f"choose {' or '.join(known)}", id=f"loss.{name}")
        if not all(weight >= 0 for weight in self.feedback):
            raise BadInput(f"the weights are {list(self.feedback)}", remedy="use 0 or more", id="loss.feedback")
        if self.feedback and not self.distil:
            problem = f"feedback of {list(self.feedback)}, and nothing is distilled"
            raise BadInput(problem, remedy="set loss.distil above 0, or loss.feedback=[]", id="loss.distil")
        if not self.temperature > 0:
            problem = f"the temperature is {self.temperature}"
            raise BadInput(problem, remedy="use a number above 0", id="loss.temperature")

    @property
    def needs_content(self) -> bool:
        """Whether the prompt with texts must be run: for its own loss or for the KL (row (e) of Table 4)."""
        return self.content > 0 or self.alpha > 0

    @property
    def needs_query_vectors(self) -> bool:
        """Whether batches must contain the encoder's query vectors."""
        return self.distil > 0

    def __call__(
        self,
        scores_BKN: Tensor,
        content_BKN: Tensor | None,
        order_BK: Tensor,
        candidates_BN: Tensor,
        passages: BatchPassages | None = None,
    ) -> dict[str, Tensor]:
        """Return the unweighted terms "rank", "content", "kl", "distil", and "loss", their weighted sum."""
        left_BKN = remaining(order_BK, candidates_BN)
        logp_BKN = log_probabilities(scores_BKN, left_BKN)
        terms = {"rank": self._cross_entropy(logp_BKN, order_BK)}
        loss = self.rank * terms["rank"]
        if content_BKN is not None:
            logc_BKN = log_probabilities(content_BKN, left_BKN)
            terms["content"] = self._cross_entropy(logc_BKN, order_BK)
            terms["kl"] = self._kl(logp_BKN, logc_BKN, left_BKN, order_BK)
            loss = loss + self.content * terms["content"] + self.alpha * terms["kl"]
        elif self.needs_content:
            raise ValueError("this loss needs the scores of the prompt with texts")
        if self.distil:
            if passages is None:
                raise ValueError("this loss needs the scores of all passages of the batch")
            left_BKX = passages.remaining(left_BKN, candidates_BN)
            similarities_BX = passages.similarities(self.feedback)
            steps_BK = distillation(passages.scores_BKX, similarities_BX, left_BKX, self.temperature)
            terms["distil"] = (steps_BK * (order_BK >= 0)).sum() / (order_BK >= 0).sum()
            loss = loss + self.distil * terms["distil"]
        return {**terms, "loss": loss}

    def _cross_entropy(self, logp_BKN: Tensor, order_BK: Tensor) -> Tensor:
        steps_BK = listmle(logp_BKN, order_BK)
        weights = torch.ones(order_BK.shape[1], device=steps_BK.device)
        weights[0] = self.first_weight
        return _reduced(steps_BK * weights, (order_BK >= 0) * weights, self.reduction)

    def _kl(self, logp_BKN: Tensor, logc_BKN: Tensor, left_BKN: Tensor, order_BK: Tensor) -> Tensor:
        teacher = logc_BKN.detach() if self.detach_teacher else logc_BKN
        first, second = (logp_BKN, teacher) if self.direction == "embeddings_content" else (teacher, logp_BKN)
        steps_BK = torch.where(order_BK >= 0, kl(first, second, left_BKN), 0.0)
        return _reduced(steps_BK, (order_BK >= 0).float(), self.kl_reduction)


def _reduced(steps_BK: Tensor, weights_BK: Tensor, reduction: str) -> Tensor:
    """Apply `reduction` over the steps of a row, then the mean over rows; rows without steps count as 0."""
    per_row_B = steps_BK.sum(-1)
    if reduction == "mean":
        per_row_B = per_row_B / weights_BK.sum(-1).clamp(min=1e-9)
    return per_row_B.mean()
