"""A LanceDB table, embedded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perank.errors import BadInput


class LanceTable:
    """A table with a column of ids (text) and a column of vectors of one width.

    Scores are 1 - cosine distance. Raises `BadInput` for a missing column, and vectors of differing widths.
    """

    def __init__(self, table: Any, *, id_column: str = "id", vector_column: str = "vector") -> None:
        self.place, self._table, self._id, self._vector = f"lancedb {table.name}", table, id_column, vector_column
        for column in (id_column, vector_column):
            if column not in table.schema.names:
                choices = ", ".join(table.schema.names)
                raise BadInput(f"no column {column!r}", remedy=f"choose from {choices}", path=self.place)
        kind = table.schema.field(vector_column).type
        self.width = int(getattr(kind, "list_size", -1))
        if self.width < 1:
            problem = f"{vector_column!r} is {kind}, expected vectors of one width"
            raise BadInput(problem, remedy="use a fixed-size list of floats", path=self.place)

    def fetch(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of those of `ids` that exist. Raises `BadInput` if one occurs twice."""
        if not ids:
            return {}
        listed = ", ".join("'" + id.replace("'", "''") + "'" for id in ids)
        rows = self._table.search().where(f"`{self._id}` IN ({listed})").select([self._id, self._vector])
        found = rows.limit(len(ids) + 1).to_list()
        if len(found) > len({row[self._id] for row in found}):
            raise BadInput("an id names two rows", remedy="use unique ids", path=self.place)
        return {row[self._id]: np.asarray(row[self._vector], dtype=np.float32) for row in found}

    def nearest(self, query_E: np.ndarray, depth: int) -> list[tuple[str, float]]:
        """The closest passages by cosine distance."""
        search = self._table.search(query_E, vector_column_name=self._vector).distance_type("cosine")
        rows = search.select([self._id, "_distance"]).limit(depth).to_list()
        return [(row[self._id], 1 - row["_distance"]) for row in rows]
