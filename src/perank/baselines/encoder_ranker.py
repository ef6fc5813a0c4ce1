"""Reranking by the encoder alone: candidates are sorted by the inner product of their vector with the query's."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from perank.records import Bill, Candidates, Ranking, TextEncoder
from perank.retrieval.dense import similarities
from perank.retrieval.store import EmbeddingStore


class EncoderRanker:
    """A `Ranker`; passage vectors come from `store` if given, else from the passages' titles and texts.

    Each query is encoded with its own candidates only, so results don't depend on the rest of the batch; the bill
    counts `seconds_encode`. Raises `BadInput` if another encoder filled the store, or a passage is missing from it.
    """

    def __init__(self, encoder: TextEncoder, store: EmbeddingStore | None = None) -> None:
        if store is not None:
            store.manifest.check_identity(encoder.identity, store.folder)
        self.encoder, self.store = encoder, store

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`; equal scores by passage id descending."""
        return [self._rank(candidates) for candidates in batch]

    def _rank(self, candidates: Candidates) -> Ranking:
        if not len(candidates):
            return Ranking(candidates, ())
        began = time.perf_counter()
        query_E = np.asarray(self.encoder.encode_queries([candidates.query.text]))[0]
        vectors_NE = self._vectors(candidates)
        seconds = time.perf_counter() - began
        scores = similarities(query_E, vectors_NE).tolist()
        ids = [passage.id for passage in candidates.passages]
        order = sorted(range(len(ids)), key=lambda i: (scores[i], ids[i]), reverse=True)
        return Ranking(candidates, tuple(order), Bill(seconds_encode=seconds))

    def _vectors(self, candidates: Candidates) -> np.ndarray:
        if self.store is not None:
            return self.store.get([passage.id for passage in candidates.passages])
        return np.asarray(self.encoder.encode_passages([passage.contents for passage in candidates.passages]))
