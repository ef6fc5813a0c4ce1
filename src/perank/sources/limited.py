"""A large collection with a fixed number of its passages: the judged ones, then others by the hash of their ids.

The choice depends on ids alone, so it is the same on every machine. Finding it reads the whole corpus once; the chosen
ids are then kept in the cache.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from perank.errors import BadInput
from perank.files import cache_dir, read_json, sha256_of_text, write_json
from perank.records import Collection, Passage, Qrels, Query, Run
from perank.sources import LazyRuns, StreamedPassages


class Limited:
    """`limit` passages of `collection` with all of its queries and judgements; its runs keep chosen passages only.

    Raises `BadInput` if more passages than `limit` are judged.
    """

    def __init__(self, collection: Collection, *, limit: int, name: str | None = None) -> None:
        if limit < 1:
            raise BadInput(f"a limit of {limit} passages", remedy="use 1 or more", id="collection.limit")
        self.collection, self.limit = collection, limit
        self.name = name or f"{collection.name}-{limit}"

    @property
    def queries(self) -> Mapping[str, Query]:
        return self.collection.queries

    @property
    def qrels(self) -> Qrels:
        return self.collection.qrels

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        corpus = self.collection.passages
        return corpus if len(corpus) <= self.limit else _Chosen(corpus, self._ids(len(corpus)))

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        return LazyRuns({name: partial(self._run, name) for name in self.collection.runs})

    def _run(self, name: str) -> Run:
        run = self.collection.runs[name].items()
        return {query: {id: score for id, score in scores.items() if id in self.passages} for query, scores in run}

    def _ids(self, size: int) -> frozenset[str]:
        judged = {id for grades in self.qrels.values() for id in grades}
        path = self._cached_at(size, judged)
        if not path.is_file():
            write_json(path, sorted(self._chosen(judged)))
        return frozenset(read_json(path))

    def _chosen(self, judged: set[str]) -> list[str]:
        found = []

        def others() -> Iterator[str]:
            for id in self.collection.passages:
                if id in judged:
                    found.append(id)
                else:
                    yield id

        by_hash = heapq.nsmallest(self.limit, others(), key=lambda id: hashlib.sha256(id.encode()).digest())
        if len(found) > self.limit:
            problem = f"{len(found)} passages of {self.collection.name} are judged, the limit is {self.limit}"
            raise BadInput(problem, remedy="raise the limit", id="collection.limit")
        return found + by_hash[: self.limit - len(found)]

    def _cached_at(self, size: int, judged: set[str]) -> Path:
        depends_on = "\n".join([self.collection.name, str(size), str(self.limit), *sorted(judged)])
        return cache_dir() / "limited" / f"{sha256_of_text(depends_on)}.json"


class _Chosen(StreamedPassages):
    """The passages of `corpus` with these ids, in its order."""

    def __init__(self, corpus: Mapping[str, Passage], ids: frozenset[str]) -> None:
        self._corpus, self._ids = corpus, ids

    def __getitem__(self, id: str) -> Passage:
        if id not in self._ids:
            raise KeyError(id)
        return self._corpus[id]

    def get_many(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return the chosen passages among `ids`, by id, by one lookup if the corpus has that."""
        known = [id for id in ids if id in self._ids]
        found: Mapping[str, Passage] = getattr(self._corpus, "get_many", lambda _: self._corpus)(known)
        return {id: found[id] for id in known}

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def stream(self) -> Iterator[Passage]:
        return (passage for id, passage in self._corpus.items() if id in self._ids)
