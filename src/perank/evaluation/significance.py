"""The paired two-sided t-test over queries that the paper's tables use, and intervals of means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perank.errors import BadInput

# Metrics are in [0, 1] with about 16 digits; smaller differences come from the order of summation.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class TTest:
    """Student's t for paired samples: `t`, `df` = n - 1, two-sided `p`, and the mean of first minus second."""

    t: float
    df: int
    p: float
    mean_difference: float
    n: int


def paired_t_test(a: Mapping[str, float], b: Mapping[str, float]) -> TTest:
    """Test whether the means of `a` and `b` (query id -> score) differ.

    Equal scores give t = 0, p = 1; a constant difference gives an infinite t and p = 0. Raises `BadInput` if the
    queries differ or are fewer than two.
    """
    _check_ids(a, b)
    differences = [_rounded(a[id] - b[id]) for id in a]
    n, mean = len(differences), math.fsum(differences) / len(differences)
    if max(differences) - min(differences) <= _ROUNDING:
        return TTest(math.copysign(math.inf, mean) if mean else 0.0, n - 1, 0.0 if mean else 1.0, mean, n)

    from scipy.stats import ttest_rel

    result = ttest_rel(differences, [0.0] * n)
    return TTest(float(result.statistic), n - 1, float(result.pvalue), mean, n)


def _rounded(difference: float) -> float:
    return 0.0 if abs(difference) <= _ROUNDING else difference


def _check_ids(a: Mapping[str, float], b: Mapping[str, float]) -> None:
    lonely = sorted(a.keys() ^ b.keys())
    if lonely:
        raise BadInput(
            f"a paired test needs the same queries on both sides; {len(lonely)} are on one side only: "
            f"{', '.join(lonely[:5])}{', ...' if len(lonely) > 5 else ''}",
            remedy="evaluate both systems on the same suite",
        )
    if len(a) < 2:
        raise BadInput(f"a paired test needs at least two queries, found {len(a)}", remedy="evaluate more queries")


def bootstrap_interval(scores: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean over queries, 2,000 samples, seed 0; None below two queries."""
    if len(scores) < 2:
        return None
    import numpy as np
    from scipy.stats import bootstrap

    options = {"n_resamples": 2000, "confidence_level": confidence, "method": "percentile", "batch": 100}
    found = bootstrap((np.asarray(scores),), np.mean, rng=np.random.default_rng(0), **options).confidence_interval
    return float(found.low), float(found.high)
