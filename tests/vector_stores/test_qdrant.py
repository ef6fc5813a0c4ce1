from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perank import Reranker
from perank.errors import BadInput
from perank.vector_stores.qdrant import QdrantCollection
from perank.vector_stores.store import VectorStore
from vector_stores.conftest import IDS, QUERY, VECTORS
from vector_stores.promises import keeps_vector_store_promises

pytest.importorskip("qdrant_client", reason="needs the extra `qdrant`")


@pytest.fixture(params=[":memory:", "path"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:") if request.param == ":memory:" else QdrantClient(path=str(tmp_path))
    yield client
    client.close()


def fill(client: Any, vectors: np.ndarray, *, distance: str = "COSINE", vector: str | None = None) -> None:
    from qdrant_client import models

    kind = models.VectorParams(size=8, distance=getattr(models.Distance, distance))
    client.create_collection("things", vectors_config=kind if vector is None else {vector: kind})
    points = [
        models.PointStruct(id=i, vector=v.tolist() if vector is None else {vector: v.tolist()}, payload={"id": id})
        for i, (id, v) in enumerate(zip(IDS, vectors, strict=True))
    ]
    client.upsert("things", points)


@pytest.mark.parametrize("distance", ["COSINE", "DOT", "EUCLID"])
def test_promises(client: Any, distance: str, reranker: Reranker) -> None:
    fill(client, VECTORS, distance=distance)
    keeps_vector_store_promises(VectorStore(QdrantCollection(client, "things")), reranker)


def test_a_named_vector(client: Any, reranker: Reranker) -> None:
    fill(client, VECTORS, vector="text")
    keeps_vector_store_promises(VectorStore(QdrantCollection(client, "things", vector="text")), reranker)
    with pytest.raises(BadInput, match=r"no vector None .choose one of text"):
        QdrantCollection(client, "things")


def test_points_own_ids(client: Any) -> None:
    from qdrant_client import models

    fill(client, VECTORS)
    other = str(uuid.uuid4())
    client.upsert("things", [models.PointStruct(id=other, vector=VECTORS[2].tolist())])
    store = VectorStore(QdrantCollection(client, "things", id_field=None))
    np.testing.assert_allclose(store.get(["7", other]), VECTORS[[7, 2]], atol=1e-6)
    assert {id for id, _ in store.search(VECTORS[2], 2)} == {"2", other}
    with pytest.raises(BadInput, match="no 'id' in its payload"):
        VectorStore(QdrantCollection(client, "things")).search(VECTORS[2], 2)


def test_lengths(client: Any, reranker: Reranker) -> None:
    fill(client, 3 * VECTORS, distance="DOT")
    with pytest.raises(BadInput, match="the vector has length 3"):
        VectorStore(QdrantCollection(client, "things")).rank(QUERY, reranker)
    keeps_vector_store_promises(VectorStore(QdrantCollection(client, "things"), normalise=True), reranker)
    client.delete_collection("things")
    fill(client, 3 * VECTORS)  # with cosine distance, Qdrant scales them itself
    keeps_vector_store_promises(VectorStore(QdrantCollection(client, "things")), reranker)


def test_what_does_not_exist_is_named(client: Any) -> None:
    with pytest.raises(BadInput, match="qdrant things: no such collection"):
        QdrantCollection(client, "things")
