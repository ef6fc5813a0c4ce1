"""Reranking by the encoder alone: candidates are sorted by the inner product of their vector with the query's."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from perank.records import Bill, Candidates, Ranking, TextEncoder
from perank.retrieval.dense import similarities
from perank.retrieval.store import EmbeddingStore


class CandidateVectors:
    """Vectors of queries and their candidates, for rankers that share them; passages as for `EncoderRanker`.

    Each query is encoded by itself, once, and kept. Raises `BadInput` if another encoder filled the store.
    """

    def __init__(self, encoder: TextEncoder, store: EmbeddingStore | None = None) -> None:
        if store is not None:
            store.manifest.check_identity(encoder.identity, store.folder)
        self.encoder, self.store = encoder, store
        self._queries: dict[str, tuple[np.ndarray, float]] = {}

    def of(self, candidates: Candidates) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the query's vector [E], the passages' [N, E] in fp32, and seconds, those of the query's encoding too.

        The seconds of a query that was encoded before are counted again: every ranker pays for what it uses.
        """
        query_E, seconds = self._query(candidates.query.text)
        began = time.perf_counter()
        passages = candidates.passages
        if self.store is not None:
            vectors_NE = self.store.get([passage.id for passage in passages])
        else:
            vectors_NE = np.asarray(self.encoder.encode_passages([passage.contents for passage in passages]))
        return query_E, vectors_NE, seconds + time.perf_counter() - began

    def _query(self, text: str) -> tuple[np.ndarray, float]:
        if text not in self._queries:
            began = time.perf_counter()
            query_E = np.asarray(self.encoder.encode_queries([text]))[0]
            self._queries[text] = query_E, time.perf_counter() - began
        return self._queries[text]


class EncoderRanker:
    """A `Ranker`; passage vectors come from `store` if given, else from the passages' titles and texts.

    Each query is encoded with its own candidates only, so results don't depend on the rest of the batch; the bill
    counts `seconds_encode`. Raises `BadInput` if another encoder filled the store, or a passage is missing from it.
    """

    def __init__(self, encoder: TextEncoder, store: EmbeddingStore | None = None) -> None:
        self.encoder, self.store, self.vectors = encoder, store, CandidateVectors(encoder, store)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`; equal scores by passage id descending."""
        return [self._rank(candidates) for candidates in batch]

    def _rank(self, candidates: Candidates) -> Ranking:
        if not len(candidates):
            return Ranking(candidates, ())
        query_E, vectors_NE, seconds = self.vectors.of(candidates)
        scores = similarities(query_E, vectors_NE)
        return Ranking(candidates, best_first(candidates, scores), Bill(seconds_encode=seconds))


def best_first(candidates: Candidates, scores_N: np.ndarray) -> tuple[int, ...]:
    """Return the positions of candidates by score descending, ties by passage id descending."""
    scores, ids = scores_N.tolist(), [passage.id for passage in candidates.passages]
    return tuple(sorted(range(len(ids)), key=lambda i: (scores[i], ids[i]), reverse=True))
