"""Statistics of a training set, for its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from perank.errors import BadInput


class RankingStatistics:
    """Counts over the queries of a ranking set's parts.

    `kendall_tau` compares the teacher's order with the first stage's. `relevant_first`: the share of queries with a
    relevant candidate for which the teacher, or the first stage, ranks one first.
    """

    def __init__(self) -> None:
        self.counts = {"queries": 0, "too_few_candidates": 0, "too_long": 0, "rows": 0}
        self.found: list[float] = []
        self.tokens: list[float] = []
        self.tau: list[float] = []
        self.first: dict[str, list[float]] = {"teacher": [], "first_stage": []}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one query of a part."""
        self.counts["queries"] += 1
        self.counts["rows"] += len(entry["rows"])
        self.found.append(entry["found"])
        if "order" not in entry:
            self.counts["too_few_candidates"] += 1
            return
        self.counts["too_long"] += not entry["rows"]
        if entry["tokens"] is not None:
            self.tokens.append(entry["tokens"])
        self.tau.append(kendall_tau(entry["order"]))
        if relevant := set(entry["relevant"]):
            self.first["teacher"].append(entry["order"][0] in relevant)
            self.first["first_stage"].append(0 in relevant)

    def as_dict(self) -> dict[str, Any]:
        """Return counts, and distributions over queries."""
        return {
            **self.counts,
            "candidates": spread(self.found),
            "tokens": spread(self.tokens),
            "kendall_tau": spread(self.tau),
            "queries_with_a_relevant_candidate": len(self.first["teacher"]),
            "relevant_first": {name: round(_mean(hits), 6) for name, hits in self.first.items()},
        }


def counted(entries: Iterable[Mapping[str, Any]], statistics: RankingStatistics) -> Iterator[dict[str, Any]]:
    """Yield the rows of all queries and count them. Raises `BadInput` if there are none."""
    for entry in entries:
        statistics.add(entry)
        yield from entry["rows"]
    counts = statistics.counts
    if not counts["rows"]:
        problem = f"none of {counts['queries']} queries gave a row: {counts['too_long']} are too long, "
        problem += f"{counts['too_few_candidates']} have too few candidates"
        raise BadInput(problem, remedy="raise preparation.max_tokens, or check collection and first stage")


def kendall_tau(order: Sequence[int]) -> float:
    """Kendall's tau of a permutation and 0, 1, 2, ...; 1 for a single candidate."""
    from scipy.stats import kendalltau

    return float(kendalltau(range(len(order)), order).statistic) if len(order) > 1 else 1.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, minimum, median, 95th percentile (nearest rank) and maximum; {} without values."""
    if not values:
        return {}
    least, median, p95, most = np.quantile(values, [0, 0.5, 0.95, 1], method="inverted_cdf").tolist()
    found = {"mean": _mean(values), "min": least, "median": median, "p95": p95, "max": most}
    return {name: round(float(value), 6) for name, value in found.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
