"""Anchored scores, an extension of Eq. 4: what is known of a passage before the LLM ranks it.

    score_ij = llm * score_scale * h_i . E_M(e_j) + a cos(e_q, e_j) - b ln(1 + r_j) + c cos(e_j, m_i)

r_j is the passage's rank in the first stage, from 0; m_i is the mean of the vectors ranked before step i of the window,
at step 1 that of the first stage's best (Rocchio's pseudo relevance feedback), evenly or, with a `temperature` T,
weighted by the softmax of (cos(e_q, e_j) - 0.05 ln(1 + r_j)) / T. a, b, c and the LLM's weight are trained. Not in the
paper. All vectors have unit length, so cos(e_j, m_i) = e_j . s_i / |s_i| for the vectors' sum s_i.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from perank.errors import BadInput, check_least
from perank.model.batches import Origin

log = logging.getLogger(__name__)

_LOG_RANK = 0.05  # weight of -ln(1 + r) next to the cosine, as in perank.baselines.fusion


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorSettings:
    """The config group `anchors`: initial values of a (`cosine`), b (`rank`), c (`feedback`); None leaves a term out.

    `llm` is the initial weight of the LLM's scores; from 0, the LLM learns what the anchors get wrong. `first`: the
    number of the first stage's passages in m_1, `temperature` that of their weights (None: equal weights). Without
    `stepwise`, m_1 is used at every step. With `first_state`, h_1 is: an LLM that has learned only the first rank is
    read once per window. `fit`: fit a, b, c by maximum likelihood before training, on the first `fit_ranks` ranks of
    the rows (None: those that are trained).
    """

    cosine: float | None = None
    rank: float | None = None
    feedback: float | None = None
    llm: float = 1.0
    first: int = 5
    stepwise: bool = True
    temperature: float | None = None
    first_state: bool = False
    fit: bool = False
    fit_ranks: int | None = None

    def __post_init__(self) -> None:
        check_least("anchors", 1, first=self.first, fit_ranks=self.fit_ranks)
        if self.first_state and self.stepwise and self.feedback is not None:
            problem = "first_state asks the LLM once per window, stepwise feedback changes with every rank"
            raise BadInput(problem, remedy="set anchors.stepwise=false", id="anchors.first_state")
        if self.terms and not all(abs(value) < float("inf") for value in (*self.terms.values(), self.llm)):
            raise BadInput(f"the weights are {self.terms}", remedy="use finite numbers", id="anchors")
        if not self.terms:
            remedy = "set cosine, rank or feedback, or leave the anchors out"
            raise BadInput("no anchor has a weight", remedy=remedy, id="anchors")
        if self.temperature is not None and not (self.cosine is not None and 0 < self.temperature < float("inf")):
            problem = f"temperature is {self.temperature}, cosine {self.cosine}"
            remedy = "use a temperature above 0 and a cosine, or temperature=null for equal weights"
            raise BadInput(problem, remedy=remedy, id="anchors.temperature")

    @property
    def terms(self) -> dict[str, float]:
        """The terms in use with their weights."""
        named = {"cosine": self.cosine, "rank": self.rank, "feedback": self.feedback}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def needs_origin(self) -> bool:
        """Whether scores depend on the first stage's ranking."""
        return self.rank is not None or self.feedback is not None

    def first_sum(self, vectors_XE: Tensor, ranks_X: Tensor, query_E: Tensor | None) -> Tensor:
        """s_1 [E]: the weighted sum of those of a query's passages whose ranks, from 0, are below `first`.

        Raises `ValueError` with a `temperature` if the query's vector is missing.
        """
        best_XE, ranks_X = vectors_XE[ranks_X < self.first], ranks_X[ranks_X < self.first]
        if self.temperature is None:
            return best_XE.sum(0)
        if query_E is None:
            raise ValueError("the feedback's weights need the query's vector")
        evidence_X = best_XE @ query_E.to(best_XE) - _LOG_RANK * ranks_X.to(best_XE.dtype).log1p()
        return (evidence_X / self.temperature).softmax(0) @ best_XE


class Anchors(nn.Module):
    """The weights a, b, c of the terms in use, and `llm`, each of shape [1]."""

    def __init__(self, settings: AnchorSettings) -> None:
        super().__init__()
        self.settings = settings
        values = {**settings.terms, "llm": settings.llm}
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.tensor([float(v)])) for name, v in values.items()})

    @property
    def current(self) -> AnchorSettings:
        """The settings with the current weights, which describe this module completely."""
        values: dict[str, Any] = {name: float(value.detach()) for name, value in self.weights.items()}
        return replace(self.settings, **values, fit=False)

    def features(self, vectors_BNE: Tensor, query_BE: Tensor | None, origin: Origin | None) -> dict[str, Tensor]:
        """cos(e_q, e_j) and -ln(1 + r_j) of shape [B, 1, N], cos(e_j, m_i) [B, K, N], as far as they are in use.

        Vectors of shape [N, E] are shared by all rows. Raises `ValueError` if the query or the origin is missing.
        """
        found = {}
        if "cosine" in self.weights:
            if query_BE is None:
                raise ValueError("the cosine anchor needs the query's vector")
            shared, query_BE = vectors_BNE.ndim == 2, query_BE.to(vectors_BNE.dtype)
            cosine_BN = query_BE @ vectors_BNE.mT if shared else (vectors_BNE @ query_BE[..., None]).squeeze(-1)
            found["cosine"] = cosine_BN[:, None]
        if self.settings.needs_origin and origin is None:
            raise ValueError("the anchors need the first stage's ranking")
        if origin is not None and "rank" in self.weights:
            found["rank"] = -origin.ranks_BN.to(vectors_BNE.dtype).log1p()[:, None]
        if origin is not None and "feedback" in self.weights:
            found["feedback"] = normalize(origin.ranked_BKE.to(vectors_BNE.dtype), dim=-1) @ vectors_BNE.mT
        return found

    def score(self, vectors_BNE: Tensor, query_BE: Tensor | None, origin: Origin | None) -> Tensor:
        """The anchors' part of the scores, in the vectors' type: [B, K, N], or [B, 1, N] if all steps share it."""
        scores_BKN = vectors_BNE.new_zeros(1)
        for name, values_BKN in self.features(vectors_BNE, query_BE, origin).items():
            scores_BKN = scores_BKN + self.weights[name].to(vectors_BNE.dtype) * values_BKN
        return scores_BKN

    def after(self, origin: Origin, ranked_BKE: Tensor) -> Origin:
        """The origin for steps after which vectors of these sums have been ranked."""
        return replace(origin, ranked_BKE=ranked_BKE) if self.settings.stepwise else origin

    def forced(self, origin: Origin | None, vectors_BNE: Tensor, order_BK: Tensor) -> Origin | None:
        """The origin of each step of a gold order, for teacher forcing; `origin` is that of step 1."""
        if origin is None or "feedback" not in self.weights:
            return origin
        index_BKE = order_BK[:, :-1].clamp(min=0)[..., None].expand(-1, -1, vectors_BNE.shape[2])
        picked_BKE = vectors_BNE.gather(1, index_BKE) * (order_BK[:, :-1, None] >= 0)
        return self.after(origin, torch.cat([origin.ranked_BKE.to(picked_BKE), picked_BKE.cumsum(1)], dim=1))


def without_anchors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's state without its anchors; the weight of the LLM's scores goes into `score_scale`."""
    left = {name: value for name, value in state.items() if not name.startswith("anchors.")}
    if len(left) < len(state):
        log.warning("the anchors of `start` are left out: this run has anchors=null")
        left["score_scale"] = left["score_scale"] * state["anchors.weights.llm"].reshape(())
    return left
