from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perank import Reranker
from perank.errors import BadInput
from perank.vector_stores.faiss_index import FaissIndex
from perank.vector_stores.store import VectorStore
from vector_stores.conftest import IDS, QUERY, VECTORS
from vector_stores.promises import keeps_vector_store_promises

faiss = pytest.importorskip("faiss", reason="needs the extra `faiss`")


def filled(factory: str, metric: int | None = None) -> Any:
    index = faiss.index_factory(8, factory, faiss.METRIC_INNER_PRODUCT if metric is None else metric)
    index.train(VECTORS)
    index.add(VECTORS)
    return index


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF2,Flat"])
@pytest.mark.parametrize("metric", ["METRIC_INNER_PRODUCT", "METRIC_L2"])
def test_promises(factory: str, metric: str, reranker: Reranker) -> None:
    index = filled(factory, getattr(faiss, metric))
    if "IVF" in factory:
        index.nprobe = 2
        index.make_direct_map()
    keeps_vector_store_promises(VectorStore(FaissIndex(index, IDS)), reranker)


def test_numbers_of_ones_own(reranker: Reranker) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(8))
    numbers = np.arange(40, dtype=np.int64) * 7 + 100
    index.add_with_ids(VECTORS, numbers)
    named = dict(zip(numbers.tolist(), IDS, strict=True))
    keeps_vector_store_promises(VectorStore(FaissIndex(index, named)), reranker)


def test_compressed_vectors_only_on_request(reranker: Reranker) -> None:
    index = filled("SQ8")
    with pytest.raises(BadInput, match="IndexScalarQuantizer may hold compressed vectors"):
        FaissIndex(index, IDS)
    store = VectorStore(FaissIndex(index, IDS, quantised=True))
    np.testing.assert_allclose(store.get(IDS), VECTORS, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(store.get(IDS), axis=1), 1, atol=1e-6)
    assert len(store.rank(QUERY, reranker, depth=5).order) == 5


def test_indexes_that_cannot_give_vectors_back_are_refused() -> None:
    with pytest.raises(BadInput, match="make_direct_map"):
        VectorStore(FaissIndex(filled("IVF2,Flat"), IDS)).get(IDS[:1])
    index = faiss.IndexIDMap(faiss.IndexFlatIP(8))
    index.add_with_ids(VECTORS, np.arange(40))
    with pytest.raises(BadInput, match="IndexIDMap2"):
        VectorStore(FaissIndex(index, IDS)).get(IDS[:1])


def test_ids_name_every_vector_once() -> None:
    with pytest.raises(BadInput, match="holds 40 vectors, 39 ids"):
        FaissIndex(filled("Flat"), IDS[:-1])
    with pytest.raises(BadInput, match="an id names two vectors"):
        FaissIndex(filled("Flat"), [*IDS[:-1], IDS[0]])
