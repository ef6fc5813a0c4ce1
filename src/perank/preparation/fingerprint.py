"""Digests of everything that training rows depend on, to detect outdated rows."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from typing import Any

from perank.records import Collection
from perank.retrieval.store import EmbeddingStore
from perank.retrieval.store_writer import digest_of_texts

_PASSAGES = 1_000_000  # a larger corpus is identified by its size and its first million passages


def fingerprint(*known: Any) -> str:
    """Return a digest of JSON values, 16 hex digits."""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def settings_of(thing: object) -> dict[str, Any]:
    """Return the plain public settings of a retriever or ranker, and the identities of its parts."""
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
    """Return a digest of a collection's name, queries and judgements."""
    asked = [[query.id, query.text] for query in collection.queries.values()]
    judged = {query: sorted(grades.items()) for query, grades in collection.qrels.items()}
    return hashlib.sha256(json.dumps([collection.name, asked, judged], sort_keys=True).encode()).hexdigest()


def passages_digest(collection: Collection) -> list[Any]:
    """Return the number of a collection's passages, and a digest of the first million."""
    texts = ((id, passage.contents) for id, passage in collection.passages.items())
    return [len(collection.passages), digest_of_texts(islice(texts, _PASSAGES))]


def store_digest(store: EmbeddingStore) -> list[Any]:
    """Return the encoder's identity, and digests of the encoded ids and texts."""
    return [dict(store.identity), [shard.texts for shard in store.manifest.shards]]
