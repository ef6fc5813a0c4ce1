from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perank import Reranker
from perank.errors import BadInput
from perank.vector_stores.lancedb import LanceTable
from perank.vector_stores.store import VectorStore
from vector_stores.conftest import IDS, QUERY, VECTORS
from vector_stores.promises import keeps_vector_store_promises

pytest.importorskip("lancedb", reason="needs the extra `lancedb`")


def table(folder: Path, vectors: np.ndarray, *, ids: list[str] = IDS, dtype: str = "float32") -> Any:
    import lancedb
    import pyarrow

    values = pyarrow.array(vectors.astype(dtype).ravel())
    columns = {"id": pyarrow.array(ids), "vector": pyarrow.FixedSizeListArray.from_arrays(values, vectors.shape[1])}
    return lancedb.connect(folder).create_table("things", pyarrow.table(columns))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3)])
def test_promises(tmp_path: Path, reranker: Reranker, dtype: str, tolerance: float) -> None:
    store = VectorStore(LanceTable(table(tmp_path, VECTORS, dtype=dtype)))
    keeps_vector_store_promises(store, reranker, tolerance=tolerance)


def test_lengths(tmp_path: Path, reranker: Reranker) -> None:
    engine = LanceTable(table(tmp_path, 3 * VECTORS))
    with pytest.raises(BadInput, match="the vector has length 3"):
        VectorStore(engine).rank(QUERY, reranker)
    keeps_vector_store_promises(VectorStore(engine, normalise=True), reranker)


def test_unusable_tables_are_refused(tmp_path: Path) -> None:
    import lancedb
    import pyarrow

    found = table(tmp_path / "a", VECTORS)
    with pytest.raises(BadInput, match=r"no column 'embedding' .choose from id, vector"):
        LanceTable(found, vector_column="embedding")
    lists = pyarrow.table({"id": ["a", "b"], "numbers": [[0.1], [0.2, 0.3]]})
    ragged = lancedb.connect(tmp_path / "b").create_table("things", lists)
    with pytest.raises(BadInput, match="expected vectors of one width"):
        LanceTable(ragged, vector_column="numbers")
    twice = table(tmp_path / "c", VECTORS, ids=[*IDS[:-1], IDS[0]])
    with pytest.raises(BadInput, match="an id names two rows"):
        VectorStore(LanceTable(twice)).get([IDS[0]])
