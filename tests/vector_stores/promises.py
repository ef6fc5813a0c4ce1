"""What every store promises, whatever its engine."""

from __future__ import annotations

import numpy as np
import pytest

from perank import Reranker
from perank.errors import BadInput
from perank.vector_stores.store import VectorStore
from support.fake_encoders import HashEncoder
from vector_stores.conftest import ENCODER, IDS, QUERY, TEXTS, VECTORS


def keeps_vector_store_promises(store: VectorStore, reranker: Reranker, *, tolerance: float = 1e-6) -> None:
    """Lookups, searches and rankings equal those of the vectors in memory; wrong requests are refused."""
    assert store.width == 8
    chosen = [17, 3, 17, 39]
    found = store.get([IDS[i] for i in chosen])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, VECTORS[chosen], atol=tolerance)
    assert store.get([]).shape == (0, 8)

    hits = nearest_in_memory(12)
    ranking = store.rank(QUERY, reranker, depth=12)
    assert [passage.id for passage in ranking.candidates.passages] == [IDS[i] for i in hits]
    expected = reranker.rank(QUERY, passage_embeddings=found_again(store, hits))
    assert ranking.order == expected.order != tuple(range(12))
    assert list(ranking.candidates.scores) == sorted(ranking.candidates.scores, reverse=True)
    assert ranking.bill.forwards == expected.bill.forwards and ranking.bill.seconds_encode > 0
    assert store.rank(QUERY, reranker, depth=12, top_k=3).order[:3] == expected.order[:3]

    store.check_encoder(ENCODER, dict(list(TEXTS.items())[:5]))
    refuses(store, reranker)


def nearest_in_memory(depth: int) -> list[int]:
    return np.argsort(-(VECTORS @ ENCODER.vector(QUERY)))[:depth].tolist()  # type: ignore[no-any-return]


def found_again(store: VectorStore, rows: list[int]) -> np.ndarray:
    return store.get([IDS[i] for i in rows])


def refuses(store: VectorStore, reranker: Reranker) -> None:
    with pytest.raises(BadInput, match="'gone': no vector with this id"):
        store.get([IDS[0], "gone"])
    with pytest.raises(BadInput, match=r"shape \[9\], the index holds vectors of width 8"):
        store.search(np.ones(9), 3)
    with pytest.raises(BadInput, match="depth of 1 or more"):
        store.rank(QUERY, reranker, depth=0)
    with pytest.raises(BadInput, match="a cosine of"):
        store.check_encoder(HashEncoder(name="other"), {IDS[0]: TEXTS[IDS[0]]})
    with pytest.raises(BadInput, match="the encoder's have 9"):
        store.check_encoder(HashEncoder(9), {IDS[0]: TEXTS[IDS[0]]})
    declared = VectorStore(store.engine, identity=HashEncoder(name="other").identity)
    with pytest.raises(BadInput, match="another encoder's vectors"):
        declared.rank(QUERY, reranker)
    with pytest.raises(BadInput, match="another encoder's vectors"):
        Reranker(reranker.model, reranker.prompts, ENCODER, store=declared)
