"""A Qdrant collection: a server's, or one in Qdrant's embedded mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perank.errors import BadInput

_PAGE = 1000


class QdrantCollection:
    """A collection of a `QdrantClient`; `vector` is the name of the vector if points have several.

    Passage ids are the payload's `id_field`, or (None) the points' own ids, integers or UUIDs, as text. Qdrant scales
    vectors of collections with cosine distance to unit length, and keeps the original of what it quantises. Scores are
    similarities, or negated distances. Raises `BadInput` for a missing collection or vector.
    """

    def __init__(self, client: Any, name: str, *, vector: str | None = None, id_field: str | None = "id") -> None:
        self.place, self._client, self._name = f"qdrant {name}", client, name
        self._vector, self._id_field = vector, id_field
        if not client.collection_exists(name):
            raise BadInput("no such collection", remedy="check its name", path=self.place)
        kinds = client.get_collection(name).config.params.vectors
        named = kinds if isinstance(kinds, dict) else {None: kinds}
        if vector not in named:
            choices = ", ".join(map(str, named))
            raise BadInput(f"no vector {vector!r}", remedy=f"choose one of {choices}", path=self.place)
        self.width, self._distance = int(named[vector].size), str(named[vector].distance.value)

    def fetch(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of those of `ids` that exist."""
        found = {}
        for start in range(0, len(ids), _PAGE):
            for point in self._points(ids[start : start + _PAGE]):
                vector = point.vector if self._vector is None else point.vector[self._vector]
                found[self._id(point)] = np.asarray(vector, dtype=np.float32)
        return found

    def nearest(self, query_E: np.ndarray, depth: int) -> list[tuple[str, float]]:
        """The closest passages."""
        payload = [self._id_field] if self._id_field is not None else False
        found = self._client.query_points(
            self._name, query=query_E.tolist(), using=self._vector, limit=depth, with_payload=payload
        )
        sign = 1 if self._distance in ("Cosine", "Dot") else -1
        return [(self._id(point), sign * point.score) for point in found.points]

    def _points(self, ids: Sequence[str]) -> Sequence[Any]:
        vectors = True if self._vector is None else [self._vector]
        if self._id_field is None:
            numbers = [int(id) if id.isdecimal() else id for id in ids]
            return self._client.retrieve(self._name, numbers, with_payload=False, with_vectors=vectors)
        from qdrant_client import models

        wanted = models.FieldCondition(key=self._id_field, match=models.MatchAny(any=list(ids)))
        found, more = self._client.scroll(
            self._name,
            scroll_filter=models.Filter(must=[wanted]),
            limit=len(ids) + 1,
            with_payload=[self._id_field],
            with_vectors=vectors,
        )
        if more is not None or len(found) > len(ids):
            raise BadInput("an id names two points", remedy="use unique ids", path=self.place)
        return found

    def _id(self, point: Any) -> str:
        if self._id_field is None:
            return str(point.id)
        if self._id_field not in (point.payload or {}):
            problem = f"the point has no {self._id_field!r} in its payload"
            raise BadInput(problem, remedy="set id_field", path=self.place, id=str(point.id))
        return str(point.payload[self._id_field])
