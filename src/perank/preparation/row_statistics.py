"""What a training set is made of, in numbers: for its manifest, and to be read before anything trains on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from perank.errors import BadInput


class RankingStatistics:
    """Counts over the queries of a ranking set's parts.

    `kendall_tau`: the teacher's order against the first stage's, 1 for the same. `relevant_first`: among queries with
    a relevant candidate, how often the teacher, and the first stage, have one at the top.
    """

    def __init__(self) -> None:
        self.counts = {"queries": 0, "too_few_candidates": 0, "too_long": 0, "rows": 0}
        self.found: list[float] = []
        self.tokens: list[float] = []
        self.tau: list[float] = []
        self.first: dict[str, list[float]] = {"teacher": [], "first_stage": []}

    def add(self, entry: Mapping[str, Any]) -> None:
        """One query of a part."""
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
        """Counts, and distributions over queries."""
        return {
            **self.counts,
            "candidates": spread(self.found),
            "tokens": spread(self.tokens),
            "kendall_tau": spread(self.tau),
            "queries_with_a_relevant_candidate": len(self.first["teacher"]),
            "relevant_first": {name: round(_mean(hits), 6) for name, hits in self.first.items()},
        }


def counted(entries: Iterable[Mapping[str, Any]], statistics: RankingStatistics) -> Iterator[dict[str, Any]]:
    """The rows of all queries, which are counted as they pass. Raises `BadInput` if there were none."""
    for entry in entries:
        statistics.add(entry)
        yield from entry["rows"]
    counts = statistics.counts
    if not counts["rows"]:
        problem = f"none of {counts['queries']} queries gave a row: {counts['too_long']} are too long, "
        problem += f"{counts['too_few_candidates']} have too few candidates"
        raise BadInput(problem, remedy="raise preparation.max_tokens, or check collection and first stage")


def kendall_tau(order: Sequence[int]) -> float:
    """Of a permutation against 0, 1, 2, ...: 1 for the same order, -1 for its reverse."""
    n = len(order)
    pairs = n * (n - 1) // 2
    inverted = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
    return 1.0 - 2.0 * inverted / pairs if pairs else 1.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, least, median, 95th percentile (nearest rank) and most; {} of nothing."""
    if not values:
        return {}
    ranked = sorted(values)

    def at(share: float) -> float:
        return round(float(ranked[max(0, -(-int(share * 1000) * len(ranked) // 1000) - 1)]), 6)

    return {"mean": round(_mean(values), 6), "min": at(0), "median": at(0.5), "p95": at(0.95), "max": at(1)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
