"""Against a server that the test starts: Debian's PostgreSQL with pgvector, or the one in the package `pgserver`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from perank import Reranker
from perank.errors import BadInput
from perank.vector_stores.pgvector import PgVectorTable
from perank.vector_stores.store import VectorStore
from support.postgres import running_postgres
from vector_stores.conftest import IDS, QUERY, VECTORS
from vector_stores.promises import keeps_vector_store_promises

pytest.importorskip("psycopg", reason="needs the extra `pgvector`")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with running_postgres() as connection:
        yield connection


@pytest.fixture
def connection(server: Any) -> Any:
    server.execute("DROP SCHEMA IF EXISTS mine CASCADE")
    server.execute("CREATE SCHEMA mine")
    return server


def fill(connection: Any, vectors: np.ndarray, *, kind: str = "vector(8)", ids: list[str] = IDS) -> None:
    connection.execute(f"CREATE TABLE mine.things (id text, embedding {kind})")
    with connection.cursor() as cursor:
        rows = [(id, str(vector.tolist())) for id, vector in zip(ids, vectors, strict=True)]
        cursor.executemany("INSERT INTO mine.things VALUES (%s, %s)", rows)


def test_promises(connection: Any, reranker: Reranker) -> None:
    fill(connection, VECTORS)
    keeps_vector_store_promises(VectorStore(PgVectorTable(connection, "mine.things")), reranker)
    connection.execute("CREATE INDEX ON mine.things USING hnsw (embedding vector_cosine_ops)")
    keeps_vector_store_promises(VectorStore(PgVectorTable(connection, "mine.things")), reranker)


def test_lengths(connection: Any, reranker: Reranker) -> None:
    fill(connection, 3 * VECTORS)
    with pytest.raises(BadInput, match="the vector has length 3"):
        VectorStore(PgVectorTable(connection, "mine.things")).rank(QUERY, reranker)
    store = VectorStore(PgVectorTable(connection, "mine.things"), normalise=True)
    keeps_vector_store_promises(store, reranker)


def test_integer_ids(connection: Any) -> None:
    connection.execute("CREATE TABLE mine.numbered (id bigint, embedding vector(8))")
    connection.execute("INSERT INTO mine.numbered VALUES (7, %s)", [str(VECTORS[0].tolist())])
    store = VectorStore(PgVectorTable(connection, "mine.numbered"))
    np.testing.assert_allclose(store.get(["7"]), VECTORS[:1], atol=1e-6)
    assert store.search(VECTORS[0], 5)[0][0] == "7"


def test_unusable_tables_are_refused(connection: Any) -> None:
    fill(connection, VECTORS, ids=[*IDS[:-1], IDS[0]])
    with pytest.raises(BadInput, match="an id names two rows"):
        VectorStore(PgVectorTable(connection, "mine.things")).get([IDS[0]])
    with pytest.raises(BadInput, match=r"postgresql mine\.nothing: no column 'id'"):
        PgVectorTable(connection, "mine.nothing")
    with pytest.raises(BadInput, match="no column 'vector'"):
        PgVectorTable(connection, "mine.things", vector_column="vector")
    with pytest.raises(BadInput, match="is of type text, without a width"):
        PgVectorTable(connection, "mine.things", vector_column="id")
    connection.execute("CREATE TABLE mine.loose (id text, embedding vector)")
    with pytest.raises(BadInput, match="without a width"):
        PgVectorTable(connection, "mine.loose")
