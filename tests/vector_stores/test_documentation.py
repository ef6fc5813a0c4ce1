"""docs/vector_stores.md: each engine's code runs and finds the nearest passages."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from perank import Reranker
from perank.files import PACKAGE_DIR
from perank.vector_stores.store import VectorStore
from support.documented import blocks
from vector_stores.conftest import IDS, QUERY, VECTORS
from vector_stores.promises import nearest_in_memory

BLOCKS = blocks("vector_stores.md")


def given(library: str, folder: Path, stack: ExitStack) -> dict[str, Any]:
    """The objects that a block expects to exist."""
    match library:
        case "faiss":
            import faiss

            index = faiss.IndexFlatIP(8)
            index.add(VECTORS)
            return {"index": index, "ids": IDS}
        case "qdrant_client":
            from qdrant_client import QdrantClient, models

            client = QdrantClient(":memory:")
            kind = models.VectorParams(size=8, distance=models.Distance.COSINE)
            client.create_collection("passages", vectors_config=kind)
            named = enumerate(zip(IDS, VECTORS.tolist(), strict=True))
            client.upsert("passages", [models.PointStruct(id=i, vector=v, payload={"id": id}) for i, (id, v) in named])
            return {"client": client}
        case "lancedb":
            import lancedb

            rows = [{"id": id, "vector": vector} for id, vector in zip(IDS, VECTORS, strict=True)]
            return {"table": lancedb.connect(folder).create_table("passages", rows)}
        case "psycopg":
            from support.postgres import running_postgres

            connection = stack.enter_context(running_postgres())
            connection.execute("CREATE TABLE passages (id text, embedding vector(8))")
            for id, vector in zip(IDS, VECTORS.tolist(), strict=True):
                connection.execute("INSERT INTO passages VALUES (%s, %s)", [id, str(vector)])
            return {"connection": connection}
    raise AssertionError(library)


@pytest.mark.parametrize("library", BLOCKS)
def test_an_engines_code_finds_the_nearest(library: str, reranker: Reranker, tmp_path: Path) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    with ExitStack() as stack:
        names = given(library, tmp_path, stack)
        exec(compile(BLOCKS[library], f"docs/vector_stores.md, {library}", "exec"), names)
        found = VectorStore(names["engine"], identity=reranker.encoder.identity).rank(QUERY, reranker, depth=5)
    assert [passage.id for passage in found.candidates.passages] == [IDS[i] for i in nearest_in_memory(5)]


def test_every_engine_is_documented() -> None:
    text = (PACKAGE_DIR.parent.parent / "docs" / "vector_stores.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (PACKAGE_DIR / "vector_stores").glob("*.py")} - {"__init__", "store"}
    assert all(f"`{module}." in text and f"perank.vector_stores.{module} import" in text for module in modules)
    assert len(BLOCKS) == len(modules)
