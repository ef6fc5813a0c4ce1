"""A collection in memory, and an encoder whose vectors follow from a hash of the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perank.records import Passage, Qrels, Query, Run


@dataclass(frozen=True)
class InMemory:
    """A collection made of dictionaries."""

    passages: Mapping[str, Passage]
    queries: Mapping[str, Query] = field(default_factory=dict)
    qrels: Qrels = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    name: str = "in-memory"


def collection(texts: Mapping[str, str], queries: Mapping[str, str] | None = None) -> InMemory:
    """Passages and queries from id -> text."""
    return InMemory(
        {id: Passage(id, text) for id, text in texts.items()},
        {id: Query(id, text) for id, text in (queries or {}).items()},
    )
