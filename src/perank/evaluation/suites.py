"""A suite: queries of a collection, the candidates that a first stage finds for them, and metrics.

All judged queries with a text count, or a sample that depends only on their ids and so is the same for all systems and
devices. A judged query without first-stage results can't be reranked and scores 0. A query that is a passage itself is
not among its own results, as in BEIR's evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from perank.errors import BadInput, check_distinct
from perank.evaluation.matching import check_passages, missing_passages, queries_among_passages, queries_with_text
from perank.evaluation.metrics import load_metrics, measure, parse_metric
from perank.records import Candidates, Collection, FirstStage, Qrels, Query, Run, rank_order
from perank.sources import check_ids, make_candidates, read_run

ON_FAILURE = ("first_stage", "zero", "stop")


@dataclass(eq=False)
class Suite:
    """What to evaluate on; files are read on first use.

    `first_stage` is the name of one of the collection's runs, the path of a run file, a run, or a retriever.
    `depth` is the number of candidates per query; `max_queries` takes a sample by hash of the query ids.
    `binary_cutoff` is the lowest relevant grade for MRR, MAP, recall and precision (2 on TREC DL). The first metric is
    what tables, verdicts and sweeps go by. `on_failure` says what becomes of a query that can't be ranked: it keeps the
    order of the "first_stage", it scores "zero", or the evaluation ends ("stop").
    Raises `BadInput` for a number below 1, for unknown, missing or repeated metrics, and for another `on_failure`.
    """

    name: str
    collection: Collection
    first_stage: str | Path | Run | FirstStage
    depth: int = 100
    max_queries: int | None = None
    metrics: Sequence[str] = ("ndcg@10", "mrr@10", "map", "recall@100")
    binary_cutoff: int = 1
    on_failure: str = "first_stage"
    tied: int = field(default=0, init=False)  # queries with ties at the last candidate, known after the first stage

    def __post_init__(self) -> None:
        self.metrics = tuple(self.metrics)
        for metric in self.metrics:
            parse_metric(metric)
        if not self.metrics:
            raise BadInput("expected at least one metric", remedy="name metrics such as ndcg@10", id=self.name)
        check_distinct(f"{self.name}: metrics", self.metrics)
        for what in ("depth", "max_queries", "binary_cutoff"):
            number = getattr(self, what)
            if number is not None and number < 1:
                raise BadInput(f"{what} is {number}", remedy="use 1 or more", id=self.name)
        check_on_failure(self.on_failure)

    @cached_property
    def query_ids(self) -> list[str]:
        """The measured queries, all judged ones with a text or the sample, in the order of the qrels."""
        judged = queries_with_text(self.collection)
        if self.max_queries is None or len(judged) <= self.max_queries:
            return judged
        sample = set(sorted(judged, key=lambda id: hashlib.sha256(id.encode()).digest())[: self.max_queries])
        return [id for id in judged if id in sample]

    @cached_property
    def first_stage_run(self) -> Run:
        """The first stage's top `depth` passages for each of the suite's queries with results."""
        run = self.without_itself(self._searched())
        answered = [id for id in self.query_ids if run.get(id)]
        if not answered:
            raise BadInput(
                f"the first stage {self.first_stage_name} answers none of the {len(self.query_ids)} queries",
                remedy="use a run and qrels of the same queries",
                id=self.name,
            )
        check_passages({id: run[id] for id in answered}, self.collection, self.first_stage_name)
        ranked = {id: rank_order(run[id])[: self.depth + 1] for id in answered}
        last = {id: [run[id][passage] for passage in ids[self.depth - 1 :]] for id, ids in ranked.items()}
        self.tied = sum(len(set(scores)) < len(scores) for scores in last.values())
        return {id: {passage: run[id][passage] for passage in ids[: self.depth]} for id, ids in ranked.items()}

    @cached_property
    def own_passages(self) -> set[str]:
        """The queries that are passages themselves."""
        return queries_among_passages(self.collection, self.query_ids) if self._reads_corpus else set()

    def without_itself(self, run: Run) -> Run:
        """Return a run without the query itself among its results."""
        if not self.own_passages:
            return run
        own = self.own_passages
        return {
            id: {passage: score for passage, score in scores.items() if id not in own or passage != id}
            for id, scores in run.items()
        }

    @cached_property
    def missing(self) -> tuple[int, int]:
        """Relevant passages that the corpus lacks, and all relevant ones. Raises `BadInput` if it lacks all."""
        return missing_passages(self.collection, self.qrels()) if self._reads_corpus else (0, 0)

    @cached_property
    def _reads_corpus(self) -> bool:
        # To measure a run needs no corpus, which ir_datasets would have to download.
        given = isinstance(self.first_stage, str | Path | Mapping)
        return not given or isinstance(self.collection.passages, dict)

    @property
    def first_stage_name(self) -> str:
        """The name of the first stage in tables."""
        if isinstance(self.first_stage, str | Path):
            return Path(self.first_stage).name
        return "run" if isinstance(self.first_stage, Mapping) else _name_of(self.first_stage)

    @property
    def labels(self) -> dict[str, str | int]:
        """The suite's columns of a results table."""
        return {"collection": self.collection.name, "first_stage": self.first_stage_name, "candidates": self.depth}

    @property
    def note(self) -> str:
        """What is measured, if not all judged queries are, and what doesn't fit together."""
        judged, known = len(self.collection.qrels), len(queries_with_text(self.collection))
        measured, (missing, relevant) = len(self.query_ids), self.missing
        parts = [
            f"a sample of {measured} of {known} judged queries, by hash of their ids" if measured < known else "",
            f"{judged - known} judged queries have no text and are left out" if known < judged else "",
            f"{missing} of {relevant} relevant passages are not in the corpus" if missing else "",
            f"{len(self.own_passages)} queries are passages, and not their own results" if self.own_passages else "",
            f"{self.tied} queries have ties at the last candidate, broken by passage id" if self.tied else "",
        ]
        return "; ".join(part for part in parts if part)

    def check(self) -> None:
        """Raise `BadInput` if nothing fits together, or an evaluation's files can't hold an id: before ranking."""
        load_metrics()
        self.missing  # noqa: B018
        for query_id in self.query_ids:
            check_ids(query_id, self.first_stage_run.get(query_id, ()), self.name)

    def candidates(self, query_ids: Sequence[str] | None = None) -> list[Candidates]:
        """Return candidates of `query_ids` (default: all), without queries for which the first stage found none."""
        wanted = self.query_ids if query_ids is None else self._known(query_ids)
        return [self._candidates[id] for id in wanted if id in self._candidates]

    def qrels(self, query_ids: Sequence[str] | None = None) -> Qrels:
        """Return the judgements of `query_ids` (default: all)."""
        wanted = self.query_ids if query_ids is None else self._known(query_ids)
        return {id: self.collection.qrels[id] for id in wanted}

    def measure(self, run: Run, query_ids: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
        """Return metric -> query id -> score of a run; queries without results score 0."""
        return measure(self.qrels(query_ids), run, self.metrics, binary_cutoff=self.binary_cutoff)

    @cached_property
    def _candidates(self) -> dict[str, Candidates]:
        run = self.first_stage_run
        made = make_candidates(self.collection, run, self.depth, query_ids=list(run))
        return {candidates.query.id: candidates for candidates in made}

    def _searched(self) -> Run:
        if isinstance(self.first_stage, str | Path):
            return self._named_run(str(self.first_stage))
        if isinstance(self.first_stage, Mapping):
            return self.first_stage
        depth = self.depth + bool(self.own_passages)
        return self.first_stage.search(self.collection, self._queries(), depth)

    def _queries(self) -> list[Query]:
        return [self.collection.queries[id] for id in self.query_ids]

    def _named_run(self, name: str) -> Run:
        if name in self.collection.runs:
            return self.collection.runs[name]
        if Path(name).is_file():
            return read_run(name)
        known = ", ".join(self.collection.runs) or "none"
        problem = f"{self.collection.name} has no run {name!r}, and no such file exists"
        raise BadInput(problem, remedy=f"name a run file or one of its runs: {known}", id=self.name)

    def _known(self, query_ids: Sequence[str]) -> Sequence[str]:
        known = set(self.query_ids)
        strangers = [id for id in query_ids if id not in known]
        if strangers:
            problem = f"{len(strangers)} queries don't belong to the suite: {', '.join(strangers[:3])}"
            raise BadInput(problem, remedy="take them from its query_ids", id=self.name)
        return query_ids


def check_on_failure(choice: str) -> None:
    """Raise `BadInput` unless it is one of the choices."""
    if choice not in ON_FAILURE:
        raise BadInput(f"unknown choice {choice!r}", remedy=f"choose {', '.join(ON_FAILURE)}", id="on_failure")


def _name_of(thing: object) -> str:
    return str(getattr(thing, "name", "") or type(thing).__name__)
