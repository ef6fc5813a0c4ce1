"""Fit a calibration on judged candidates, and measure how far predicted probabilities are from observed relevance.

Candidates without a judgement count as not relevant, as in NDCG. The error is the expected calibration error in 15
bins of equal width (Naeini et al., 2015).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from perank.errors import BadInput

_BINS = 15


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores and relevance (0 or 1) of P candidates of `queries` queries."""

    scores_P: np.ndarray
    relevant_P: np.ndarray
    queries: int

    @classmethod
    def of(
        cls, scores: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]], binary_cutoff: int = 1
    ) -> Judged:
        """Join scores (query id -> passage id -> score) with the grades; queries without judgements are left out."""
        pairs = [
            (score, qrels[query].get(passage, 0) >= binary_cutoff)
            for query, found in scores.items()
            if query in qrels
            for passage, score in found.items()
        ]
        table = np.array(pairs, dtype=float).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1], len(scores.keys() & qrels.keys()))

    def __add__(self, other: Judged) -> Judged:
        scores_P, relevant_P = [self.scores_P, other.scores_P], [self.relevant_P, other.relevant_P]
        return Judged(np.concatenate(scores_P), np.concatenate(relevant_P), self.queries + other.queries)


@dataclass(frozen=True, slots=True)
class Reliability:
    """The error, and per bin that isn't empty: mean probability, share of relevant candidates, number of candidates."""

    error: float
    bins: list[tuple[float, float, int]]
    candidates: int
    queries: int


def fitted_points(judged: Iterable[Judged]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fit isotonic regression of relevance on scores; return its points. Raises `BadInput` without both classes."""
    from sklearn.isotonic import IsotonicRegression

    together = sum(judged, Judged(np.empty(0), np.empty(0), 0))
    if len(set(together.relevant_P.tolist())) < 2:
        share = f"{int(together.relevant_P.sum())} of {len(together.relevant_P)} scored candidates are relevant"
        raise BadInput(
            f"{share}: nothing to fit", remedy="use a PE-Rank model on a suite with judgements of both kinds"
        )
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(together.scores_P, together.relevant_P)
    return tuple(fit.X_thresholds_.tolist()), tuple(fit.y_thresholds_.tolist())


def reliability(judged: Judged) -> Reliability:
    """Compare probabilities in [0, 1] with relevance."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    probabilities_P, relevant_P = judged.scores_P, judged.relevant_P
    error = binary_calibration_error(torch.tensor(probabilities_P), torch.tensor(relevant_P).long(), n_bins=_BINS)
    bin_P = np.minimum((probabilities_P * _BINS).astype(int), _BINS - 1)
    bins = [
        (float(probabilities_P[bin_P == b].mean()), float(relevant_P[bin_P == b].mean()), int((bin_P == b).sum()))
        for b in range(_BINS)
        if (bin_P == b).any()
    ]
    return Reliability(float(error), bins, len(relevant_P), judged.queries)
