"""What a retriever checks before it searches."""

from __future__ import annotations

from collections.abc import Sequence

from perank.errors import BadInput
from perank.records import Query


def check_request(queries: Sequence[Query], depth: int) -> int:
    """Return `depth`. Raises `BadInput` for a depth below 1 and for duplicate queries."""
    if depth < 1:
        raise BadInput(f"can't retrieve {depth} passages per query", remedy="ask for a depth of 1 or more")
    seen: set[str] = set()
    for query in queries:
        if query.id in seen:
            raise BadInput("the query was given twice", remedy="search for every query once", id=query.id)
        seen.add(query.id)
    return depth
