"""A collection in memory, an encoder whose vectors follow from a hash of the text, and stores that it filled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

from perank.records import Passage, Qrels, Query, Run
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.retrieval.store import EmbeddingStore


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


ENCODER = HashEncoder()


def texts_of(ids: Sequence[str]) -> dict[str, str]:
    """A text for every id."""
    return {id: f"text of {id}" for id in ids}


def filled(folder: Path, n: int = 10, shard_rows: int = 4, **options: object) -> EmbeddingStore:
    """A store of p0, p1, ... by `ENCODER`."""
    ids = [f"p{i}" for i in range(n)]
    return encode_into(folder, texts_of(ids), ENCODER, StoreOptions(shard_rows=shard_rows, progress=False, **options))  # type: ignore[arg-type]


def flip_bit(path: Path) -> None:
    """Damage a file in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
