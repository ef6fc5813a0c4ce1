from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from perank import Reranker
from perank.errors import BadInput
from perank.records import Candidates, Passage, Query
from perank.vector_stores.store import VectorStore
from vector_stores.conftest import ENCODER, IDS, QUERY, VECTORS
from vector_stores.promises import keeps_vector_store_promises


class InMemory:
    """The smallest engine."""

    place, width = "memory", 8

    def __init__(self, vectors: Mapping[str, np.ndarray]) -> None:
        self.vectors = vectors

    def fetch(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        return {id: self.vectors[id] for id in ids if id in self.vectors}

    def nearest(self, query_E: np.ndarray, depth: int) -> list[tuple[str, float]]:
        scores = {id: float(vector @ query_E) for id, vector in self.vectors.items()}
        return sorted(scores.items(), key=lambda found: -found[1])[:depth]


def test_promises(reranker: Reranker) -> None:
    keeps_vector_store_promises(VectorStore(InMemory(dict(zip(IDS, VECTORS, strict=True)))), reranker)


def test_a_rerankers_store(reranker: Reranker) -> None:
    store = VectorStore(InMemory(dict(zip(IDS, VECTORS, strict=True))), identity=ENCODER.identity)
    with_store = Reranker(reranker.model, reranker.prompts, ENCODER, store=store)
    found = with_store.rank_batch([Candidates(Query("q", QUERY), tuple(Passage(id, "") for id in IDS[:9]))])[0]
    assert found.order == reranker.rank(QUERY, passage_embeddings=VECTORS[:9]).order


def test_lengths_are_checked_or_changed_on_request() -> None:
    engine = InMemory({"long": 3 * VECTORS[0], "zero": np.zeros(8), "nan": np.full(8, np.nan), "short": np.ones(7)})
    with pytest.raises(BadInput, match=r"memory, id 'long': the vector has length 3, expected 1 \(set normalise=True"):
        VectorStore(engine).get(["long"])
    np.testing.assert_allclose(VectorStore(engine, normalise=True).get(["long"])[0], VECTORS[0], atol=1e-6)
    for id, message in {"zero": "zero or not finite", "nan": "zero or not finite", "short": r"shape \[7\]"}.items():
        with pytest.raises(BadInput, match=message):
            VectorStore(engine, normalise=True).get([id])


def test_an_empty_index_gives_an_empty_ranking(reranker: Reranker) -> None:
    assert VectorStore(InMemory({})).rank(QUERY, reranker).order == ()


def test_a_query_needs_an_encoder(reranker: Reranker) -> None:
    with pytest.raises(BadInput, match="no encoder for the query"):
        VectorStore(InMemory({})).rank(QUERY, Reranker(reranker.model, reranker.prompts))
