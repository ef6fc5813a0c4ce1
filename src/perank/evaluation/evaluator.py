"""Rank a suite's candidates and evaluate the run.

`rank_suite` runs on each device with its share of the queries, `evaluate_ranked` once with what all devices ranked;
`evaluate_ranker` does both in one process. A query that fails costs no other query its ranking.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from perank.errors import BadInput
from perank.evaluation.attempts import RankedBatch, rank_each
from perank.evaluation.matching import check_passages
from perank.evaluation.result import Evaluation
from perank.evaluation.scored import Scored
from perank.evaluation.suites import Suite
from perank.records import Bill, Candidates, Ranker, Ranking, Run
from perank.sources import candidates_run


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
    return evaluate_ranked(ranked, suite, system=system or type(ranker).__name__, query_ids=query_ids)


@dataclass(frozen=True, slots=True)
class RankedQueries:
    """A run over some queries, each one's bill and scores, the wall time, and query id -> error of failed ones."""

    run: Run
    bills: dict[str, Bill]
    seconds: float
    failed: dict[str, str] = field(default_factory=dict)
    shown: Mapping[str, Scored] = field(default_factory=dict)


def rank_suite(
    ranker: Ranker, suite: Suite, query_ids: Sequence[str] | None = None, *, batch_size: int = 16, progress: bool = True
) -> RankedQueries:
    """Rank the candidates of some of a suite's queries (default: all).

    Queries that can't be ranked are treated as the suite's `on_failure` says. Raises the first error if it is "stop",
    and if the first queries all fail.
    """
    candidates = suite.candidates(query_ids)
    start = time.perf_counter()
    done = _ranked(ranker, candidates, batch_size, progress, suite)
    seconds = time.perf_counter() - start
    bills = {ranking.candidates.query.id: ranking.bill for ranking in done.rankings}
    run = candidates_run(done.rankings)
    if suite.on_failure == "first_stage":
        failed = [element for element in candidates if element.query.id in done.failed]
        run |= candidates_run(Ranking(element, tuple(range(len(element)))) for element in failed)
    shown = {ranking.candidates.query.id: Scored.of(ranking) for ranking in done.rankings}
    return RankedQueries(run, bills, seconds, done.failed, shown)


def evaluate_ranked(
    ranked: RankedQueries, suite: Suite, *, system: str, query_ids: Sequence[str] | None = None
) -> Evaluation:
    """Evaluate rankings of a suite's queries; the note counts those that failed."""
    evaluation = evaluate_run(
        ranked.run, suite, system=system, bills=ranked.bills, seconds=ranked.seconds, query_ids=query_ids
    )
    evaluation = replace(evaluation, shown=ranked.shown)
    if not ranked.failed:
        return evaluation
    fate = "keep the first stage's order" if suite.on_failure == "first_stage" else "score 0"
    said = f"{len(ranked.failed)} queries could not be ranked and {fate}: {', '.join([*ranked.failed][:3])}"
    note = "; ".join(part for part in (evaluation.note, said) if part)
    return replace(evaluation, failed=ranked.failed, note=note)


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
    counted = suite.without_itself({id: run[id] for id in qrels if run.get(id)})
    check_passages(counted, suite.collection, system)
    return Evaluation(
        suite=suite.name,
        system=system,
        run=counted,
        per_query=suite.measure(counted, query_ids),
        bills=dict(bills or {}),
        seconds=seconds,
        labels=suite.labels,
        note=_note(suite, counted, len(qrels) - len(counted), len(run) - len(counted)),
    )


def _ranked(ranker: Ranker, candidates: Sequence[Candidates], size: int, progress: bool, suite: Suite) -> RankedBatch:
    patient = suite.on_failure != "stop"
    return rank_each(ranker, candidates, batch_size=size, progress=progress, label=suite.name, patient=patient)


def _unknown(suite: Suite, run: Run) -> int:
    """Count results without a text, where passages are in memory."""
    passages = suite.collection.passages
    in_memory = isinstance(passages, dict)
    return sum(id not in passages for scores in run.values() for id in scores) if in_memory else 0


def _note(suite: Suite, run: Run, unanswered: int, outside: int) -> str:
    unknown = _unknown(suite, run)
    parts = [
        suite.note,
        f"{unknown} results are not in the corpus" if unknown else "",
        f"{unanswered} queries without results score 0" if unanswered else "",
        f"{outside} queries of the run are not measured" if outside else "",
    ]
    return "; ".join(part for part in parts if part)
