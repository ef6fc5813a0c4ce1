"""Query vectors by id, encoded when first asked for and kept: queries are few and short beside passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perank.errors import BadInput
from perank.records import Query
from perank.retrieval.text_encoder import TextEncoder


class QueryVectors:
    """Vectors of a collection's queries."""

    def __init__(self, queries: Mapping[str, Query], encoder: TextEncoder) -> None:
        self.queries, self.encoder = queries, encoder
        self._known: dict[str, np.ndarray] = {}

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """[len(ids), E] in fp32. Raises `BadInput` for an unknown query id."""
        missing = [id for id in dict.fromkeys(ids) if id not in self._known]
        for id in missing:
            if id not in self.queries:
                raise BadInput("there is no such query", remedy="check the id and the collection", id=id)
        if missing:
            vectors = self.encoder.encode_queries([self.queries[id].text for id in missing])
            self._known.update(zip(missing, np.asarray(vectors, dtype=np.float32), strict=True))
        return np.stack([self._known[id] for id in ids]) if ids else np.empty((0, self.encoder.width), np.float32)
