"""Search and look up vectors in an engine, and rank what was found by its stored vectors, without any text.

Engines give back what they hold; `VectorStore` checks it: every id present, the width, finite numbers, unit length.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from perank.errors import BadInput
from perank.ranking.reranker import Reranker
from perank.ranking.vectors import check_store
from perank.records import Bill, Identity, Passage, Ranking, TextEncoder

_UNIT = 1e-2  # tolerance on the length of unit vectors, as of vectors given to `Reranker.rank`
_SAME = 0.99  # cosine of a text's vector with itself; fp16 and int8 stay above it, other encoders far below


class Engine(Protocol):
    """An index or a table; `place` names it in messages."""

    place: str

    @property
    def width(self) -> int:
        """E, the length of a vector."""
        ...

    def fetch(self, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
        """The vectors [E] of those of `ids` that exist."""
        ...

    def nearest(self, query_E: np.ndarray, depth: int) -> list[tuple[str, float]]:
        """Up to `depth` ids, the closest first, and scores, higher for closer: similarities or negated distances."""
        ...


class VectorStore:
    """Implements `Vectors` over an engine: give it to `Reranker(store=)`, or search and rank with `rank`.

    The model must have been trained with the encoder that filled the engine. Engines don't know theirs: `identity`
    declares it (`encoder.identity`), and `check_encoder` tests it. Vectors must have length 1 within 0.01, unless
    `normalise` is set: they are then divided by their lengths.
    """

    def __init__(self, engine: Engine, *, identity: Identity | None = None, normalise: bool = False) -> None:
        self.engine, self.identity, self.normalise = engine, identity, normalise

    @property
    def width(self) -> int:
        """E, the length of a vector."""
        return self.engine.width

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """Return the vectors of `ids` in order: fp32 [B, E].

        Raises `BadInput` for a missing id and a vector of another width, that isn't finite, or isn't of unit length.
        """
        found = self.engine.fetch(list(dict.fromkeys(ids)))
        for id in ids:
            if id not in found:
                raise BadInput("no vector with this id", remedy="add it to the index", path=self.engine.place, id=id)
        vectors = [self._checked(id, np.asarray(found[id], dtype=np.float32)) for id in ids]
        return np.stack(vectors) if vectors else np.empty((0, self.width), dtype=np.float32)

    def search(self, query_E: np.ndarray, depth: int) -> list[tuple[str, float]]:
        """Return up to `depth` (id, score) pairs, closest first. Raises `BadInput` for a vector of another width."""
        if depth < 1:
            raise BadInput(f"can't retrieve {depth} passages", remedy="ask for a depth of 1 or more")
        query_E = np.asarray(query_E, dtype=np.float32)
        if query_E.shape != (self.width,):
            problem = f"a query vector of shape {list(query_E.shape)}, the index holds vectors of width {self.width}"
            raise BadInput(problem, remedy="use the encoder that filled the index", path=self.engine.place)
        return self.engine.nearest(query_E, depth)

    def rank(self, query: str, reranker: Reranker, *, depth: int = 100, top_k: int | None = None) -> Ranking:
        """Encode the query, search for `depth` passages, and rank them by their stored vectors.

        Passages have ids and empty texts. Raises `BadInput` as `search` and `get` do, and for a reranker without
        encoder or with another one than `identity`.
        """
        if reranker.encoder is None:
            raise BadInput("the reranker has no encoder for the query", remedy="load a model with its encoder")
        check_store(self, reranker.encoder)
        start = time.perf_counter()
        query_E = np.asarray(reranker.encoder.encode_queries([query])[0], dtype=np.float32)
        encoding = Bill(seconds_encode=time.perf_counter() - start)
        hits = self.search(query_E, depth)
        passages = [Passage(id, "") for id, _ in hits]
        vectors_NE = self.get([id for id, _ in hits])
        found = reranker.rank(query, passages, passage_embeddings=vectors_NE, query_embedding=query_E, top_k=top_k)
        candidates = replace(found.candidates, scores=tuple(score for _, score in hits))
        return replace(found, candidates=candidates, bill=found.bill + encoding)

    def check_encoder(self, encoder: TextEncoder, texts: Mapping[str, str]) -> None:
        """Encode some stored passages (id -> text, as they were encoded) and compare with their stored vectors.

        Raises `BadInput` if the widths differ or a cosine is below 0.99: another encoder, or another text.
        """
        if encoder.width != self.width:
            problem = f"vectors of width {self.width}, the encoder's have {encoder.width}"
            raise BadInput(problem, remedy="use the encoder that filled the index", path=self.engine.place)
        stored_BE = self.get(list(texts))
        cosines_B = (stored_BE * np.asarray(encoder.encode_passages(list(texts.values())))).sum(axis=1)
        for id, cosine in zip(texts, cosines_B.tolist(), strict=True):
            if cosine < _SAME:
                problem = f"the stored vector has a cosine of {cosine:.3f} with the encoder's"
                raise BadInput(problem, remedy="use the encoder that filled the index", path=self.engine.place, id=id)

    def _checked(self, id: str, vector_E: np.ndarray) -> np.ndarray:
        place = self.engine.place
        if vector_E.shape != (self.width,):
            problem = f"a vector of shape {list(vector_E.shape)}, expected [{self.width}]"
            raise BadInput(problem, remedy="encode the passage again", path=place, id=id)
        length = float(np.linalg.norm(vector_E.astype(np.float64)))
        if not np.isfinite(length) or length == 0:
            problem = "the vector is zero or not finite"
            raise BadInput(problem, remedy="encode the passage again", path=place, id=id)
        if self.normalise:
            return vector_E / np.float32(length)
        if abs(length - 1) > _UNIT:
            problem = f"the vector has length {length:.4g}, expected 1"
            raise BadInput(problem, remedy="set normalise=True to divide by it", path=place, id=id)
        return vector_E
