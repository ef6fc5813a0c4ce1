"""What every first stage keeps: from a collection's passages, the best for each query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perank.errors import BadInput
from perank.records import Collection, Query, Run


class FirstStage(Protocol):
    """BM25 or dense retrieval over all passages of a collection."""

    def search(self, collection: Collection, queries: Sequence[Query] | None = None, depth: int | None = None) -> Run:
        """Query id -> up to `depth` passages, best first; all queries of the collection unless some are given."""
        ...


def check_request(queries: Sequence[Query], depth: int) -> int:
    """`depth`, if it and the queries can be searched for. Raises `BadInput` otherwise."""
    if depth < 1:
        raise BadInput(f"can't retrieve {depth} passages a query", remedy="ask for a depth of 1 or more")
    seen: set[str] = set()
    for query in queries:
        if query.id in seen:
            raise BadInput("the query was given twice", remedy="search for every query once", id=query.id)
        seen.add(query.id)
    return depth
