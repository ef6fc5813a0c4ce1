"""Whether a collection's judgements, queries and passages belong together.

Published collections have judgements of passages and queries that are missing, and queries that are passages
themselves (ArguAna): these are counted. `BadInput` is for collections of which nothing fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perank.errors import BadInput
from perank.records import Collection, Qrels, Run, rank_order
from perank.sources import near, relevant_passages

_PROBED = 1000  # passages of a run that are looked for in the corpus


def queries_with_text(collection: Collection) -> list[str]:
    """Return the ids of judged queries that have a text. Raises `BadInput` if there are judgements, but none has."""
    judged, queries = list(collection.qrels), collection.queries
    found = [id for id in judged if id in queries]
    if judged and not found:
        problem = f"{len(judged)} judged queries have no text: {', '.join(judged[:3])}"
        raise BadInput(problem, remedy=_remedy(judged[0], queries), id=collection.name)
    return found


def missing_passages(collection: Collection, qrels: Qrels) -> tuple[int, int]:
    """Return how many relevant passages the corpus lacks, and how many there are. Raises `BadInput` if it lacks all."""
    relevant, missing = relevant_passages(collection, qrels)
    if missing and len(missing) == len(relevant):
        problem = f"none of the {len(missing)} relevant passages is in the corpus, for example {missing[0]!r}"
        raise BadInput(problem, remedy=_remedy(missing[0], collection.passages), id=collection.name)
    return len(missing), len(relevant)


def check_passages(run: Run, collection: Collection, system: str) -> None:
    """Raise `BadInput` if no passage of a run is judged or in the corpus."""
    if any(id in collection.qrels.get(query_id, {}) for query_id, scores in run.items() for id in scores):
        return
    probed = [id for scores in run.values() for id in rank_order(scores)[:10]][:_PROBED]
    if probed and not any(id in collection.passages for id in probed):
        problem = f"{system} names no passage of {collection.name}, but {', '.join(probed[:3])}"
        raise BadInput(problem, remedy=_remedy(probed[0], collection.passages), id=collection.name)


def queries_among_passages(collection: Collection, query_ids: Sequence[str]) -> set[str]:
    """Return queries that are passages too: with the same id and text, as in ArguAna."""
    queries, passages = collection.queries, collection.passages
    same = [id for id in query_ids if id in passages]
    return {id for id in same if _plain(queries[id].text) in map(_plain, (passages[id].text, passages[id].contents))}


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _remedy(id: str, known: Mapping[str, object]) -> str:
    other = near(id, known)
    return f"write {other!r} for {id!r}" if other else "use files of the same version of the collection"
