"""Query vectors by id, encoded when first asked for and kept: queries are few and short beside passages.

They are encoded in blocks of neighbours in the collection's order, so a vector doesn't depend, to the last bit, on who
asked for it first and beside which others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from perank.errors import BadInput
from perank.records import Query
from perank.retrieval.text_encoder import TextEncoder


class QueryVectors:
    """Vectors of a collection's queries, `block` of them encoded together."""

    def __init__(self, queries: Mapping[str, Query], encoder: TextEncoder, *, block: int = 64) -> None:
        self.queries, self.encoder, self.block = queries, encoder, block
        self._known: dict[str, np.ndarray] = {}

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """[len(ids), E] in fp32. Raises `BadInput` for an unknown query id."""
        for id in dict.fromkeys(ids):
            if id not in self.queries:
                raise BadInput("there is no such query", remedy="check the id and the collection", id=id)
            if id not in self._known:
                self._encode(self._places[id] // self.block * self.block)
        return np.stack([self._known[id] for id in ids]) if ids else np.empty((0, self.encoder.width), np.float32)

    def _encode(self, start: int) -> None:
        together = self._ids[start : start + self.block]
        vectors = self.encoder.encode_queries([self.queries[id].text for id in together])
        self._known.update(zip(together, np.asarray(vectors, dtype=np.float32), strict=True))

    @cached_property
    def _ids(self) -> list[str]:
        return list(self.queries)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {id: place for place, id in enumerate(self._ids)}
