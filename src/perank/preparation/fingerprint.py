"""Digests of what training rows depend on, so that rows made of something else are never taken for them."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from typing import Any

from perank.records import Collection
from perank.retrieval.store import EmbeddingStore
from perank.retrieval.store_writer import digest_of_texts

_PASSAGES = 1_000_000  # of a larger corpus the first million, and the size, tell it from others


def fingerprint(*known: Any) -> str:
    """16 hex digits over JSON values."""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def settings_of(thing: object) -> dict[str, Any]:
    """A retriever's or ranker's plain public settings; parts of it that have settings of their own come along."""
    known: dict[str, Any] = {"class": type(thing).__qualname__}
    for name, value in sorted(vars(thing).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, str | int | float | bool):
            known[name] = value
        elif hasattr(value, "identity"):
            known[name] = dict(value.identity)
    return known


def questions_digest(collection: Collection) -> str:
    """Digest of what rows take from a collection besides its passages."""
    asked = [[query.id, query.text] for query in collection.queries.values()]
    judged = {query: sorted(grades.items()) for query, grades in collection.qrels.items()}
    return hashlib.sha256(json.dumps([collection.name, asked, judged], sort_keys=True).encode()).hexdigest()


def passages_digest(collection: Collection) -> list[Any]:
    """Of a collection's passages: how many, and the texts of the first million."""
    texts = ((id, passage.contents) for id, passage in collection.passages.items())
    return [len(collection.passages), digest_of_texts(islice(texts, _PASSAGES))]


def store_digest(store: EmbeddingStore) -> list[Any]:
    """The encoder, and the ids and texts it encoded."""
    return [dict(store.identity), [shard.texts for shard in store.manifest.shards]]
