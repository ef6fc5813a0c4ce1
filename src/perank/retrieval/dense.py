"""Exact dense retrieval: the passages whose vectors have the largest inner product with the query's.

A store's shards are read in chunks. fp32 matrix products select candidates, with a margin for rounding; fp64 inner
products of these give scores and order. So the result equals brute force and doesn't depend on chunks or on the rest of
the batch; passages with equal vectors have equal scores and are ordered by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.records import Collection, Passage, Query, Run, TextEncoder, check_request
from perank.retrieval.encoding import StoreOptions, cached_store
from perank.retrieval.store import EmbeddingStore

_ROWS_PER_CHUNK = 16_384  # with 512 queries, scores held at once: [512, 16,384] fp32 = 32 MiB


class Dense:
    """First-stage retrieval by an encoder's unit vectors, from `store` (default: the collection's cached store).

    The store is read once per `block` queries. `device` is where candidates are selected; results don't depend on it.
    Raises `BadInput` if another encoder filled the store.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        store: EmbeddingStore | None = None,
        depth: int = 100,
        *,
        block: int = 512,
        device: str = "cpu",
        progress: bool = False,
    ) -> None:
        if store is not None:
            store.manifest.check_identity(encoder.identity, store.folder)
        self.encoder, self.store, self.depth, self.progress = encoder, store, depth, progress
        self._block, self._device = block, device
        self._corpus: Mapping[str, Passage] | None = None

    @property
    def name(self) -> str:
        """The name in tables, with the encoder's."""
        return f"Dense {self.encoder.identity['name']}"

    def search(self, collection: Collection, queries: Sequence[Query] | None = None, depth: int | None = None) -> Run:
        """Return `depth` passages (or all of a smaller corpus) and inner products per query id, best first.

        Searches all queries of the collection unless `queries` is given. Raises `BadInput` for a depth below 1, a
        duplicate query, and a store whose number of passages differs from the collection's.
        """
        asked = list(collection.queries.values()) if queries is None else queries
        depth = check_request(asked, self.depth if depth is None else depth)
        store = self._store(collection)
        run: Run = {}
        for start in range(0, len(asked), self._block):
            block = asked[start : start + self._block]
            queries_QE = self.encoder.encode_queries([query.text for query in block])
            found = nearest(store, queries_QE, depth, self._device)
            for query, vector_E, rows in zip(block, queries_QE, found, strict=True):
                run[query.id] = _best(store, vector_E.numpy(), rows, depth)
        return run

    def _store(self, collection: Collection) -> EmbeddingStore:
        if self.store is None or (self._corpus is not None and self._corpus is not collection.passages):
            options = StoreOptions(progress=self.progress)
            self.store = cached_store(collection.name, collection.passages, self.encoder, options=options)
            self._corpus = collection.passages
        if len(self.store) != len(collection.passages):
            problem = f"the store holds {len(self.store)} passages, the collection {len(collection.passages)}"
            raise BadInput(problem, remedy="encode the collection into a separate store", path=self.store.folder)
        return self.store


def similarities(query_E: np.ndarray, vectors_NE: np.ndarray) -> np.ndarray:
    """Inner products as fp32 [N], each summed in fp64, independent of the others."""
    return (vectors_NE.astype(np.float64) * query_E.astype(np.float64)).sum(axis=1).astype(np.float32)


def nearest(store: EmbeddingStore, queries_QE: Tensor, depth: int, device: str = "cpu") -> list[np.ndarray]:
    """Return per query the rows of its `depth` nearest, and those that fp32 can't distinguish from the last."""
    slack = queries_QE.shape[1] * torch.finfo(torch.float32).eps  # bounds the error of E products of unit vectors
    queries_QE = queries_QE.to(device)
    best_QK = torch.empty(len(queries_QE), 0, device=device)
    query_C, row_C = (torch.empty(0, dtype=torch.long, device=device) for _ in range(2))
    score_C = torch.empty(0, device=device)
    for start, vectors_RE in _chunks(store):
        scores_QR = queries_QE @ vectors_RE.to(device).T
        best_QK = torch.cat([best_QK, scores_QR.topk(min(depth, len(vectors_RE))).values], dim=1)
        best_QK = best_QK.topk(min(depth, best_QK.shape[1])).values
        threshold_Q = best_QK[:, -1] - 2 * slack
        new_q, new_r = torch.nonzero(scores_QR >= threshold_Q[:, None], as_tuple=True)
        keep = score_C >= threshold_Q[query_C]
        query_C = torch.cat([query_C[keep], new_q])
        row_C = torch.cat([row_C[keep], new_r + start])
        score_C = torch.cat([score_C[keep], scores_QR[new_q, new_r]])
    by_query_C = query_C.argsort(stable=True)
    counts_Q = torch.bincount(query_C, minlength=len(queries_QE)).cumsum(0).cpu()
    return np.split(row_C[by_query_C].cpu().numpy(), counts_Q[:-1].tolist())


def _chunks(store: EmbeddingStore) -> Iterator[tuple[int, Tensor]]:
    for first, vectors_NE in store.shards():
        for start in range(0, len(vectors_NE), _ROWS_PER_CHUNK):
            yield first + start, torch.from_numpy(vectors_NE[start : start + _ROWS_PER_CHUNK].astype(np.float32))


def _best(store: EmbeddingStore, query_E: np.ndarray, rows: np.ndarray, depth: int) -> dict[str, float]:
    scores = similarities(query_E, store.vectors(rows)).tolist()
    found = sorted(((score, store.ids.at(row)) for score, row in zip(scores, rows.tolist(), strict=True)), reverse=True)
    return {id: score for score, id in found[:depth]}
