"""A faiss index in memory, whose vectors are reconstructed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perank.errors import BadInput

_EXACT = ("IndexFlat", "IndexFlatIP", "IndexFlatL2", "IndexFlat1D", "IndexIVFFlat", "IndexHNSWFlat")


class FaissIndex:
    """`ids` names the vectors: passage ids in the order of addition, or faiss id -> passage id (for `IndexIDMap2`).

    Scores are inner products, or negated squared distances of an L2 index. Raises `BadInput` if the number of ids
    differs from the index's, and for an index of compressed vectors: with `quantised`, these are ranked by what faiss
    reconstructs, scaled to unit length.
    """

    def __init__(self, index: Any, ids: Sequence[str] | Mapping[int, str], *, quantised: bool = False) -> None:
        self.place, self.quantised = f"faiss {type(index).__name__}", quantised
        if index.ntotal != len(ids):
            problem = f"the index holds {index.ntotal} vectors, {len(ids)} ids were given"
            raise BadInput(problem, remedy="name every vector once", path=self.place)
        self._index = index
        self._ids = dict(ids) if isinstance(ids, Mapping) else dict(enumerate(ids))
        self._numbers = {id: number for number, id in self._ids.items()}
        if len(self._numbers) < len(self._ids):
            raise BadInput("an id names two vectors", remedy="use unique ids", path=self.place)
        kind = _kind(index)
        if kind not in _EXACT and not quantised:
            remedy = "use quantised=True to rank by approximations, or keep the vectors in a flat index"
            raise BadInput(f"{kind} may hold compressed vectors", remedy=remedy, path=self.place)

    @property
    def width(self) -> int:
        """E, the length of a vector."""
        return int(self._index.d)

    def fetch(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of those of `ids` that exist. Raises `BadInput` if the index can't reconstruct vectors."""
        try:
            found = {id: self._index.reconstruct(self._numbers[id]) for id in ids if id in self._numbers}
        except RuntimeError as error:
            remedy = "call make_direct_map() on an IVF index; use IndexIDMap2 instead of IndexIDMap"
            raise BadInput("the index can't give its vectors back", remedy=remedy, path=self.place) from error
        if self.quantised:
            return {id: vector / np.linalg.norm(vector) for id, vector in found.items()}
        return found

    def nearest(self, query_E: np.ndarray, depth: int) -> list[tuple[str, float]]:
        """The closest passages; an approximate index may find fewer than `depth`."""
        import faiss

        sign = 1 if self._index.metric_type == faiss.METRIC_INNER_PRODUCT else -1
        scores, numbers = self._index.search(query_E[None], min(depth, len(self._ids)))
        found = zip(numbers[0].tolist(), scores[0].tolist(), strict=True)
        return [(self._ids[number], sign * score) for number, score in found if number >= 0]


def _kind(index: Any) -> str:
    """The class of the index that holds the vectors."""
    import faiss

    index = faiss.downcast_index(index)
    while isinstance(index, faiss.IndexIDMap):
        index = faiss.downcast_index(index.index)
    return type(index).__name__
