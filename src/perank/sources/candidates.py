"""Convert a first-stage run to candidates, and rankings to a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from perank.errors import BadInput
from perank.records import Candidates, Collection, Passage, Qrels, Query, Ranking, Run, rank_order
from perank.sources.fields import near


def make_candidates(
    collection: Collection, run: Run, depth: int, query_ids: Sequence[str] | None = None
) -> list[Candidates]:
    """Return the top `depth` passages by score for each query of the collection, in its order.

    A query missing from the run gets no passages; other queries of the run are ignored. `query_ids` selects and orders
    queries. Raises `BadInput` for an unknown query or passage id, and for a run with none of the collection's queries.
    """
    if depth < 1:
        raise BadInput(f"the depth must be at least 1, found {depth}", remedy="use a depth of 1 or more")
    queries = collection.queries
    if run and not any(id in queries for id in run):
        problem = f"the run has no query of {collection.name}"
        raise BadInput(problem, remedy="check that run and collection belong together", id=next(iter(run)))
    chosen = list(queries) if query_ids is None else query_ids
    if unknown := next((id for id in chosen if id not in queries), None):
        raise BadInput(f"{collection.name} has no such query", remedy="check the query ids", id=unknown)
    return [_candidates(collection, queries[id], run.get(id, {}), depth) for id in chosen]


def candidates_run(rankings: Iterable[Ranking]) -> Run:
    """Query id -> passage id -> n, n-1, ..., 1. Raises `BadInput` for a query or a passage that occurs twice."""
    run: Run = {}
    for ranking in rankings:
        id = ranking.candidates.query.id
        if id in run:
            raise BadInput("two rankings of one query", remedy="rank every query once", id=id)
        run[id] = strictly_decreasing(ranking.passage_ids)
        if len(run[id]) != len(ranking.order):
            raise BadInput("a passage occurs twice among the candidates", remedy="keep one of them", id=id)
    return run


def relevant_passages(collection: Collection, qrels: Qrels) -> tuple[list[str], list[str]]:
    """Return the distinct passages with a grade above 0, in the judgements' order, and those the corpus lacks."""
    relevant = list(dict.fromkeys(id for grades in qrels.values() for id, grade in grades.items() if grade > 0))
    return relevant, [id for id in relevant if id not in collection.passages]


def _candidates(collection: Collection, query: Query, scores: dict[str, float], depth: int) -> Candidates:
    ids = rank_order(scores)[:depth]
    try:
        passages = passages_by_id(collection.passages, ids)
    except KeyError as error:
        problem = f"the run names a passage for query {query.id!r} that {collection.name} has no text for"
        passage_id = error.args[0]
        other = near(passage_id, collection.passages)
        remedy = (
            f"write {other!r}, as the collection does" if other else "check that run and collection belong together"
        )
        raise BadInput(problem, remedy=remedy, id=passage_id) from error
    return Candidates(query, passages, tuple(scores[id] for id in ids))


def passages_by_id(passages: Mapping[str, Passage], ids: Sequence[str]) -> tuple[Passage, ...]:
    """Return the passages of `ids` in order, by one `get_many` if the mapping has it. Raises `KeyError` for the first
    unknown id.
    """
    known = passages.get_many(ids) if hasattr(passages, "get_many") else passages
    return tuple(known[id] for id in ids)


def strictly_decreasing(ids: Sequence[str]) -> dict[str, float]:
    """Assign scores n, n-1, ..., 1 to n ids that are in ranking order, to write them as a run."""
    return {id: float(len(ids) - i) for i, id in enumerate(ids)}
