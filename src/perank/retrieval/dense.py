"""Exact dense retrieval: the passages whose vectors have the largest inner product with the query's.

A store is read in chunks, once for thousands of queries. fp32 matrix products select candidates, with a margin for
rounding; fp64 inner products of these give scores and order. So the result equals brute force and doesn't depend on
chunks or on the rest of the batch; passages with equal vectors have equal scores and are ordered by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.records import Collection, Passage, Query, Run, TextEncoder
from perank.retrieval.device_vectors import DeviceVectors
from perank.retrieval.encoding import StoreOptions, cached_store
from perank.retrieval.request import check_request
from perank.retrieval.store import EmbeddingStore

_QUERIES = 2048  # searched in one pass over the store
_SCORES = {"cpu": 1 << 23, "cuda": 1 << 28}  # fp32 scores at once: 32 MiB, 1 GiB; as many bytes for masks and copies
_RESCORED = 8192  # vectors at once in fp64


class Dense:
    """First-stage retrieval by an encoder's unit vectors, from `store` (default: the collection's cached store).

    `block` queries are encoded together, and at least 2,048 are searched in one pass over the store. `device` is where
    candidates are selected; results don't depend on it. A GPU keeps the vectors if they fit (`DeviceVectors`); besides
    them, a pass takes less than 100 MiB on a CPU and 4 GiB on a GPU for scores, and one chunk of vectors in fp32.
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
        self._vectors: DeviceVectors | None = None

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
        together = max(1, _QUERIES // self._block) * self._block
        for start in range(0, len(asked), together):
            queries = asked[start : start + together]
            queries_QE = self._encoded(queries)
            found = nearest(self._on_device(store), queries_QE, depth)
            run |= zip((query.id for query in queries), _best(store, queries_QE.numpy(), found, depth), strict=True)
        return run

    def _encoded(self, queries: Sequence[Query]) -> Tensor:
        starts = range(0, len(queries), self._block)
        texts = [query.text for query in queries]
        return torch.cat([self.encoder.encode_queries(texts[start : start + self._block]) for start in starts])

    def _on_device(self, store: EmbeddingStore) -> DeviceVectors:
        if self._vectors is None or self._vectors.store is not store:
            self._vectors = DeviceVectors(store, self._device)
        return self._vectors

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
    """Inner products as fp32 [N], each summed in fp64, independent of the others.

    `query_E` is one query's vector, or [N, E] with one for each row.
    """
    return (vectors_NE.astype(np.float64) * query_E.astype(np.float64)).sum(axis=1).astype(np.float32)


def nearest(vectors: DeviceVectors, queries_QE: Tensor, depth: int) -> list[np.ndarray]:
    """Return per query the rows of its `depth` nearest, and those that fp32 can't distinguish from the last."""
    queries_QE = queries_QE.to(vectors.device)
    selection = _Selection(queries_QE, depth)
    for first, vectors_RE in vectors.chunks(_chunk_rows(len(queries_QE), vectors.device)):
        selection.add(first, queries_QE @ vectors_RE.T)
    return selection.rows()


def _chunk_rows(queries: int, device: torch.device) -> int:
    return max(1, _SCORES.get(device.type, _SCORES["cpu"]) // max(1, queries))


class _Selection:
    """The candidates so far: C of (query, row, score), and the `depth` best scores per query, -inf where unknown."""

    def __init__(self, queries_QE: Tensor, depth: int) -> None:
        device, self._depth, self._seen = queries_QE.device, depth, 0
        self._slack = queries_QE.shape[1] * torch.finfo(torch.float32).eps  # bounds a product's error for unit vectors
        self._best_QK = torch.full((len(queries_QE), depth), -torch.inf, device=device)
        self._query_C, self._row_C = (torch.empty(0, dtype=torch.long, device=device) for _ in range(2))
        self._score_C = torch.empty(0, device=device)

    def add(self, first: int, scores_QR: Tensor) -> None:
        """Add the scores of the rows from `first` on."""
        rows = scores_QR.shape[1]
        few = self._seen < self._depth  # no threshold yet: sorting the scores avoids a candidate for each of them
        if few:
            self._merge(scores_QR.topk(min(self._depth, rows)).values)
        query_C, row_C = torch.nonzero(scores_QR >= self._threshold()[:, None], as_tuple=True)
        score_C = scores_QR[query_C, row_C]
        if not few:
            self._merge(self._in_rows(query_C, score_C))
        self._query_C = torch.cat([self._query_C, query_C])
        self._row_C = torch.cat([self._row_C, row_C + first])
        self._score_C = torch.cat([self._score_C, score_C])
        self._drop()
        self._seen += rows

    def rows(self) -> list[np.ndarray]:
        """Return the candidates' rows for each query."""
        by_query_C = self._query_C.argsort(stable=True)
        ends_Q = torch.bincount(self._query_C, minlength=len(self._best_QK)).cumsum(0).cpu()
        return np.split(self._row_C[by_query_C].cpu().numpy(), ends_Q[:-1].tolist())

    def _threshold(self) -> Tensor:
        """What a query's candidates need, [Q]; -inf until `depth` rows were seen."""
        return self._best_QK[:, -1] - 2 * self._slack

    def _merge(self, scores_QM: Tensor) -> None:
        self._best_QK = torch.cat([self._best_QK, scores_QM], dim=1).topk(self._depth).values

    def _in_rows(self, query_C: Tensor, score_C: Tensor) -> Tensor:
        """Arrange scores that are sorted by query as [Q, M], filled up with -inf."""
        count_Q = torch.bincount(query_C, minlength=len(self._best_QK))
        place_C = torch.arange(len(query_C), device=query_C.device) - (count_Q.cumsum(0) - count_Q)[query_C]
        scores_QM = torch.full((len(count_Q), int(count_Q.max())), -torch.inf, device=score_C.device)
        scores_QM[query_C, place_C] = score_C
        return scores_QM

    def _drop(self) -> None:
        keep_C = self._score_C >= self._threshold()[self._query_C]
        self._query_C, self._row_C = self._query_C[keep_C], self._row_C[keep_C]
        self._score_C = self._score_C[keep_C]


def _best(
    store: EmbeddingStore, queries_QE: np.ndarray, found: Sequence[np.ndarray], depth: int
) -> Iterator[dict[str, float]]:
    """Yield the `depth` best candidates and scores per query, by fp64 products."""
    together = max(1, _RESCORED // depth)
    for start in range(0, len(found), together):
        rows = found[start : start + together]
        counts = [len(some) for some in rows]
        queries_CE = np.repeat(queries_QE[start : start + together], counts, axis=0)
        rows_C = np.concatenate(rows)
        scores = iter(similarities(queries_CE, store.vectors(rows_C)).tolist())
        ids = iter(store.ids.of(rows_C))
        for count in counts:
            ranked = sorted(zip(islice(scores, count), islice(ids, count), strict=True), reverse=True)
            yield {id: score for score, id in ranked[:depth]}
