"""A collection in memory, and an encoder whose vectors follow from a hash of the text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

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


class HashEncoder:
    """Unit vectors drawn from a hash of the text and of everything in `identity`; counts the texts it has seen."""

    def __init__(self, width: int = 8, **identity: str | int | bool) -> None:
        self.width, self.seen = width, 0
        self.identity: dict[str, str | int | bool] = {"name": "hash", "pooling": "mean", **identity}

    def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
        return self._encode(texts)

    def encode_queries(self, texts: Sequence[str]) -> torch.Tensor:
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        import torch

        self.seen += len(texts)
        vectors = np.stack([self.vector(text) for text in texts])
        return torch.from_numpy(vectors)

    def vector(self, text: str) -> np.ndarray:
        """The vector of one text: fp32 [E]."""
        seed = hashlib.blake2b(f"{self.identity}{text}".encode(), digest_size=8).digest()
        vector = np.random.default_rng(int.from_bytes(seed, "little")).standard_normal(self.width)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
