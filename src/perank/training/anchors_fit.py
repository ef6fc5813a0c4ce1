"""Fit the weights of the anchors on training rows by maximum likelihood, before the LLM learns.

Scores are linear in a, b and c, so the ListMLE loss (Eq. 5 and 6) of the anchors alone is convex.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from perank.model import Anchors, RankBatch, listmle, log_probabilities, remaining

log = logging.getLogger(__name__)

_PENALTY = 1e-4  # on the squared scores' deviation: a teacher that equals a feature has no finite maximum


def fit(anchors: Anchors, batch: RankBatch) -> None:
    """Set a, b, c to the minimum of the mean loss per rank, over the first `fit_ranks` ranks of the rows."""
    order_BK = batch.order_BK[:, : anchors.settings.fit_ranks]
    origin = anchors.forced(batch.origin, batch.vectors_BNE, order_BK)
    features = anchors.features(batch.vectors_BNE.double(), batch.query_BE, origin)
    left_BKN = remaining(order_BK, batch.candidates_BN)
    # In units of each feature's standard deviation among competing candidates, which LBFGS converges on.
    scales = {name: _deviation(value.expand_as(left_BKN), left_BKN) for name, value in features.items()}
    weights = {name: (anchors.weights[name].detach().double() * scales[name]).requires_grad_() for name in features}
    optimizer = torch.optim.LBFGS(list(weights.values()), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores_BKN = torch.zeros(left_BKN.shape, dtype=torch.float64)
        for name, value in features.items():
            scores_BKN = scores_BKN + weights[name] / scales[name] * value
        steps_BK = listmle(log_probabilities(scores_BKN, left_BKN), order_BK)
        value = steps_BK.sum() / (order_BK >= 0).sum() + _PENALTY * sum(w.square().sum() for w in weights.values())
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        for name, weight in weights.items():
            anchors.weights[name].copy_(weight / scales[name])
    log.info("anchors fitted on %d rows: %s", len(order_BK), anchors.current.terms)


def _deviation(values_BKN: Tensor, left_BKN: Tensor) -> Tensor:
    """Standard deviation among the competing candidates of a step, averaged over steps; at least a tiny number."""
    count_BK = left_BKN.sum(-1).clamp(min=1)
    mean_BK1 = (values_BKN * left_BKN).sum(-1, keepdim=True) / count_BK[..., None]
    return (((values_BKN - mean_BK1) * left_BKN).square().sum(-1) / count_BK).mean().sqrt().clamp(min=1e-6)
