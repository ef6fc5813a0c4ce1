"""The fitted anchors maximise the likelihood: they are what scipy finds, and what rankings were drawn with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from perank.model.anchors import Anchors, AnchorSettings
from perank.model.batches import RankBatch
from perank.training.anchors_fit import fit
from support import tiny

TRUE = (9.0, 0.8, 3.0)


def drawn(rows: int = 600, n: int = 12) -> RankBatch:
    """Rankings drawn step by step from Eq. 4 with the scores of `TRUE`."""
    windows = tiny.placed(tiny.windows([n] * rows), seed=4)
    windows.vectors_BNE[:] = tiny.unit_vectors(rows, n, 8, seed=1, dtype=torch.float64)
    noise = torch.Generator().manual_seed(2)
    cosine, rank, feedback = TRUE
    orders = []
    for b in range(rows):
        vectors_NE, origin = windows.vectors_BNE[b], windows.origin
        mean_E, left, order = origin.ranked_BKE[b, 0], list(range(n)), list[int]()
        while left:
            scores_N = cosine * vectors_NE @ windows.query_BE[b] - rank * torch.log1p(origin.ranks_BN[b].double())
            scores_N = scores_N + feedback * vectors_NE @ mean_E / mean_E.norm()
            order.append(left.pop(int(torch.multinomial(scores_N[left].softmax(0), 1, generator=noise))))
            mean_E = vectors_NE[order].mean(0)
        orders.append(order)
    return tiny.rows(windows, torch.tensor(orders))


def negative_likelihood(weights: np.ndarray, batch: RankBatch, ranks: int) -> float:
    """Minus the mean log-likelihood of the first ranks, step by step."""
    total = 0.0
    for b, order in enumerate(batch.order_BK.tolist()):
        vectors_NE = batch.vectors_BNE[b].numpy()
        mean_E = batch.origin.ranked_BKE[b, 0].numpy()
        for step in range(ranks):
            scores_N = weights[0] * vectors_NE @ batch.query_BE[b].numpy()
            scores_N = scores_N - weights[1] * np.log1p(batch.origin.ranks_BN[b].numpy())
            scores_N = scores_N + weights[2] * vectors_NE @ mean_E / np.linalg.norm(mean_E)
            total += np.logaddexp.reduce(scores_N[order[step:]]) - scores_N[order[step]]
            mean_E = vectors_NE[order[: step + 1]].sum(0)
    return total / (ranks * len(batch.order_BK))


def fitted(batch: RankBatch, **options: int) -> list[float]:
    anchors = Anchors(AnchorSettings(cosine=0.0, rank=0.0, feedback=0.0, **options))
    fit(anchors, batch)
    return [float(anchors.weights[name].detach()) for name in ("cosine", "rank", "feedback")]


def test_known_weights_are_found_again() -> None:
    assert fitted(drawn()) == pytest.approx(TRUE, rel=0.1)


@pytest.mark.parametrize("ranks", [1, 12])
def test_the_fit_is_the_maximum_that_scipy_finds(ranks: int) -> None:
    batch = drawn(150)
    best = minimize(negative_likelihood, np.zeros(3), args=(batch, ranks), method="BFGS").x
    assert fitted(batch, fit_ranks=ranks) == pytest.approx(best, rel=0.02, abs=0.02)


def test_a_teacher_that_is_a_feature_has_a_finite_weight() -> None:
    batch = drawn(50)
    order_BK = (batch.vectors_BNE @ batch.query_BE[..., None])[..., 0].argsort(1, descending=True)
    sure = RankBatch(**{name: getattr(batch, name) for name in batch.__slots__} | {"order_BK": order_BK})
    cosine, rank, feedback = fitted(sure)
    assert 20 < cosine < 2000
    assert abs(rank) < 0.1 * cosine and abs(feedback) < 0.1 * cosine
