"""Several collections as one, for training on many kinds of questions. Ids become `<name>:<id>`.

Passages of one collection are candidates for the questions of another: the first stage searches all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import ClassVar, TypeVar

from perank.errors import BadInput
from perank.records import Collection, Passage, Qrels, Query, Run

Record = TypeVar("Record", Query, Passage)


class Union:
    """The collections by name, in the mapping's order; null leaves one out. Runs are not joined.

    Raises `BadInput` if no collection is left, or for a name that contains a colon.
    """

    runs: ClassVar[Mapping[str, Run]] = {}

    def __init__(self, collections: Mapping[str, Collection | None], name: str = "union") -> None:
        self.collections = {part: source for part, source in collections.items() if source is not None}
        self.name = name
        if not self.collections:
            raise BadInput("there are no collections to join", remedy="name one", id="collection.collections")
        if wrong := next((part for part in self.collections if ":" in part), None):
            raise BadInput("a collection's name contains a colon", remedy="rename it", id=wrong)

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        return self._joined(lambda part: part.queries, lambda id, query: Query(id, query.text))

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        return self._joined(lambda part: part.passages, lambda id, found: Passage(id, found.text, found.title))

    @cached_property
    def qrels(self) -> Qrels:
        return {
            f"{name}:{query}": {f"{name}:{passage}": grade for passage, grade in grades.items()}
            for name, part in self.collections.items()
            for query, grades in part.qrels.items()
        }

    def _joined(
        self, records_of: Callable[[Collection], Mapping[str, Record]], renamed: Callable[[str, Record], Record]
    ) -> dict[str, Record]:
        return {
            id: renamed(id, record)
            for name, part in self.collections.items()
            for own, record in records_of(part).items()
            for id in [f"{name}:{own}"]
        }
