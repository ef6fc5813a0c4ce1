"""A collection in memory, a few rankers over it, and suites of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perank.evaluation.suites import Suite
from perank.records import Bill, Candidates, Passage, Qrels, Query, Ranking, Run

PASSAGES = {id: Passage(id, f"text of {id}") for id in ("p1", "p2", "p3", "p4", "p5")}
FIRST_STAGE: Run = {
    "q1": {"p1": 5.0, "p2": 4.0, "p3": 3.0, "p4": 2.0},
    "q2": {"p5": 5.0, "p4": 4.0, "p3": 3.0},
    "q3": {"p2": 1.0, "p1": 1.0},
    "unjudged": {"p1": 1.0},
}
QRELS: Qrels = {"q1": {"p4": 2, "p1": 1}, "q2": {"p3": 1, "p1": 3}, "q3": {"p1": 1}, "q4": {"p2": 1}}


@dataclass
class SmallCollection:
    """Four judged queries, of which q4 has no results, and one query that nobody judged."""

    name: str = "small"
    qrels: Qrels = field(default_factory=lambda: QRELS)
    runs: Mapping[str, Run] = field(default_factory=lambda: {"bm25": FIRST_STAGE})
    passages: Mapping[str, Passage] = field(default_factory=lambda: PASSAGES)
    queries: Mapping[str, Query] = field(
        default_factory=lambda: {id: Query(id, f"words of {id}") for id in ("q1", "q2", "q3", "q4", "unjudged")}
    )


@dataclass
class Reversing:
    """Puts the last candidate first; every query costs 3 forwards and 10 tokens a candidate."""

    sizes: list[int] = field(default_factory=list)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        self.sizes.append(len(batch))
        return [
            Ranking(candidates, tuple(reversed(range(len(candidates)))), Bill(3, 10 * len(candidates), len(candidates)))
            for candidates in batch
        ]


class Keeping:
    """Leaves candidates as the first stage ordered them."""

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        return [Ranking(candidates, tuple(range(len(candidates)))) for candidates in batch]


def small_suite(**changes: Any) -> Suite:
    settings = {"name": "small", "collection": SmallCollection(), "first_stage": "bm25", "metrics": ["ndcg@10", "mrr"]}
    return Suite(**settings | changes)
