"""Rank queries batch by batch; where a batch fails, rank its queries one by one, so that the others keep their ranking.

An error that isn't the query's own fails every query: after `_HOPELESS` queries of which none could be ranked, the
first error is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from perank.errors import Absent, BadInput
from perank.evaluation.suites import Suite
from perank.records import Candidates, ChecksCandidates, Ranker, Ranking

log = logging.getLogger(__name__)

_HOPELESS = 8


@dataclass(frozen=True, slots=True)
class RankedBatch:
    """Rankings in the order of the candidates, and query id -> error of those that have none."""

    rankings: list[Ranking] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def rank_each(
    ranker: Ranker,
    candidates: Sequence[Candidates],
    *,
    batch_size: int = 16,
    progress: bool = True,
    label: str = "",
    patient: bool = False,
) -> RankedBatch:
    """Rank `candidates`, `batch_size` at a time; without `patient`, raise the first error.

    Raises `RuntimeError` if the ranker returns rankings of other queries, and `Absent` and the first error of a ranker
    that fails for all queries in any case.
    """
    from tqdm import tqdm

    attempts = _Attempts(ranker, patient)
    with tqdm(total=len(candidates), desc=label or None, unit="query", disable=not progress) as bar:
        for start in range(0, len(candidates), batch_size):
            batch = candidates[start : start + batch_size]
            attempts.rank(batch)
            bar.update(len(batch))
    attempts.check()
    return attempts.done


def check_prompts(ranker: Ranker, suite: Suite) -> None:
    """Warn of queries that `ranker` can tell beforehand it can't rank.

    Raises `BadInput` if these are all queries, or if the suite's `on_failure` is "stop".
    """
    if not isinstance(ranker, ChecksCandidates):
        return
    candidates, failed = suite.candidates(), list[BadInput]()
    for element in candidates:
        try:
            ranker.check(element)
        except BadInput as error:
            failed.append(error)
    if failed and (suite.on_failure == "stop" or len(failed) == len(candidates)):
        raise failed[0]
    if failed:
        shown = len(failed), len(candidates), suite.name, suite.on_failure, failed[0]
        log.warning("%d of %d queries of %s can't be ranked (on_failure: %s): %s", *shown)


class _Attempts:
    def __init__(self, ranker: Ranker, patient: bool) -> None:
        self.ranker, self.patient, self.done = ranker, patient, RankedBatch()
        self.first: Exception | None = None

    def rank(self, batch: Sequence[Candidates]) -> None:
        try:
            ranked = self.ranker.rank_batch(batch)
        except Absent:
            raise
        except Exception as error:  # of one of the queries, or of all
            self._failed(batch, error)
            return
        if [ranking.candidates.query.id for ranking in ranked] != [element.query.id for element in batch]:
            raise RuntimeError(f"{type(self.ranker).__name__} returned rankings of other queries than requested")
        self.done.rankings.extend(ranked)

    def check(self, enough: int = 1) -> None:
        """Raise the first error if none of at least `enough` queries could be ranked."""
        if self.first is not None and not self.done.rankings and len(self.done.failed) >= enough:
            raise self.first

    def _failed(self, batch: Sequence[Candidates], error: Exception) -> None:
        if not self.patient:
            raise error
        self.first = self.first or error
        if len(batch) > 1:
            for candidates in batch:
                self.rank([candidates])
            return
        id = batch[0].query.id
        self.done.failed[id] = str(error) or type(error).__name__
        log.warning("query %s can't be ranked: %s", id, error, exc_info=not isinstance(error, BadInput))
        self.check(_HOPELESS)
