"""Rank a suite's candidates and evaluate the run.

`rank_suite` runs on each device with its share of the queries, `evaluate_run` once with the gathered run and bills;
`evaluate_ranker` does both in one process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from perank.errors import BadInput
from perank.evaluation.result import Evaluation, Scored
from perank.evaluation.suites import Suite
from perank.records import Bill, Candidates, Ranker, Ranking, Run
from perank.sources.candidates import candidates_run


def evaluate_ranker(
    ranker: Ranker,
    suite: Suite,
    *,
    system: str = "",
    batch_size: int = 16,
    query_ids: Sequence[str] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Rank the suite's candidates, `batch_size` queries at a time, and evaluate the run.

    The run has only the candidates, so metrics ignore first-stage results below `depth`. `query_ids` selects a subset
    of the suite's queries.
    """
    ranked = rank_suite(ranker, suite, query_ids, batch_size=batch_size, progress=progress)
    name = system or type(ranker).__name__
    costs: dict[str, Any] = {"bills": ranked.bills, "seconds": ranked.seconds}
    evaluation = evaluate_run(ranked.run, suite, system=name, query_ids=query_ids, **costs)
    return replace(evaluation, shown=ranked.shown)


@dataclass(frozen=True, slots=True)
class RankedQueries:
    """A run over some queries, the bill and the scores of each, and the total wall time."""

    run: Run
    bills: dict[str, Bill]
    seconds: float
    shown: Mapping[str, Scored] = field(default_factory=dict)


def rank_suite(
    ranker: Ranker, suite: Suite, query_ids: Sequence[str] | None = None, *, batch_size: int = 16, progress: bool = True
) -> RankedQueries:
    """Rank the candidates of some of a suite's queries (default: all)."""
    candidates = suite.candidates(query_ids)
    start = time.perf_counter()
    rankings = rank_candidates(ranker, candidates, batch_size=batch_size, progress=progress, label=suite.name)
    seconds = time.perf_counter() - start
    bills = {ranking.candidates.query.id: ranking.bill for ranking in rankings}
    shown = {ranking.candidates.query.id: Scored.of(ranking) for ranking in rankings}
    return RankedQueries(candidates_run(rankings), bills, seconds, shown)


def evaluate_run(
    run: Run,
    suite: Suite,
    *,
    system: str = "run",
    bills: Mapping[str, Bill] | None = None,
    seconds: float = 0.0,
    query_ids: Sequence[str] | None = None,
) -> Evaluation:
    """Evaluate an existing run: from a file, a first stage, or gathered from devices.

    Queries without results score 0, and queries outside the suite are ignored; the note counts both. Raises `BadInput`
    if the run has none of the collection's judged queries.
    """
    qrels = suite.qrels(query_ids)
    if run and not any(id in suite.collection.qrels for id in run):
        problem = f"{system} answers none of the judged queries of {suite.collection.name}, but {', '.join([*run][:3])}"
        raise BadInput(problem, remedy="use a run for this collection", id=suite.name)
    counted = {id: run[id] for id in qrels if run.get(id)}
    return Evaluation(
        suite=suite.name,
        system=system,
        run=counted,
        per_query=suite.measure(counted, query_ids),
        bills=dict(bills or {}),
        seconds=seconds,
        labels=suite.labels,
        note=_note(suite, len(qrels) - len(counted), len(run) - len(counted)),
    )


def rank_candidates(
    ranker: Ranker, candidates: Sequence[Candidates], *, batch_size: int = 16, progress: bool = True, label: str = ""
) -> list[Ranking]:
    """Return one ranking per element of `candidates`. Raises `RuntimeError` if the ranker changes their order."""
    from tqdm import tqdm

    rankings: list[Ranking] = []
    with tqdm(total=len(candidates), desc=label or None, unit="query", disable=not progress) as bar:
        for start in range(0, len(candidates), batch_size):
            batch = candidates[start : start + batch_size]
            ranked = ranker.rank_batch(batch)
            if [ranking.candidates.query.id for ranking in ranked] != [element.query.id for element in batch]:
                raise RuntimeError(f"{type(ranker).__name__} returned rankings of other queries than requested")
            rankings += ranked
            bar.update(len(batch))
    return rankings


def _note(suite: Suite, unanswered: int, outside: int) -> str:
    parts = [
        suite.note,
        f"{unanswered} queries without results score 0" if unanswered else "",
        f"{outside} queries of the run are not measured" if outside else "",
    ]
    return "; ".join(part for part in parts if part)
