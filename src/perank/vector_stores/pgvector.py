"""A PostgreSQL table with a pgvector column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perank.errors import BadInput


class PgVectorTable:
    """A table with a column of ids (read as text) and one of type `vector` or `halfvec`, which is read as fp32.

    `connection` is a psycopg (3) connection of yours. Scores are 1 - cosine distance. Raises `BadInput` if the
    extension, the table or a column is missing, and for a column without a width.
    """

    def __init__(self, connection: Any, table: str, *, id_column: str = "id", vector_column: str = "embedding") -> None:
        from psycopg import sql

        self.place, self._connection = f"postgresql {table}", connection
        names = {"table": table, "id": id_column, "vector": vector_column}
        self._names = {key: sql.Identifier(*name.split(".")) for key, name in names.items()}
        self._column(table, id_column)
        self._kind, self.width = self._column(table, vector_column)
        if self._kind not in ("vector", "halfvec") or self.width < 1:
            problem = f"the column {vector_column!r} is of type {self._kind}, without a width or not of vectors"
            raise BadInput(problem, remedy="use a column of type vector(E) or halfvec(E)", path=self.place)

    def fetch(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of those of `ids` that exist. Raises `BadInput` if one occurs twice."""
        rows = self._rows("SELECT {id}::text, {vector}::text FROM {table} WHERE {id}::text = ANY(%s)", [list(ids)])
        if len(rows) > len({id for id, _ in rows}):
            raise BadInput("an id names two rows", remedy="use unique ids", path=self.place)
        return {id: np.array(text.strip("[]").split(","), dtype=np.float32) for id, text in rows if text}

    def nearest(self, query_E: np.ndarray, depth: int) -> list[tuple[str, float]]:
        """The closest passages by cosine distance; an approximate index may find fewer than `depth`."""
        vector = "[" + ",".join(map(str, query_E.tolist())) + "]"
        distance = f"{{vector}} <=> %s::{self._kind}"
        statement = f"SELECT {{id}}::text, 1 - ({distance}) FROM {{table}} ORDER BY {distance} LIMIT %s"
        return [(id, float(score)) for id, score in self._rows(statement, [vector, vector, depth])]

    def _rows(self, statement: Any, values: list[Any]) -> list[Any]:
        from psycopg import sql

        query = sql.SQL(statement).format(**self._names)
        return self._connection.execute(query, values).fetchall()

    def _column(self, table: str, column: str) -> tuple[str, int]:
        """Type and width of a column of vectors; of another column, its type and -1."""
        rows = self._connection.execute(
            "SELECT t.typname, a.atttypmod FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = to_regclass(%s) AND a.attname = %s AND NOT a.attisdropped",
            [table, column],
        ).fetchall()
        if not rows:
            raise BadInput(f"no column {column!r}", remedy="check the table's and the column's name", path=self.place)
        kind, width = rows[0]
        return str(kind), int(width)
