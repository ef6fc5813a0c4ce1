"""The parts of preparation as they were before they worked in batches: what `preparation.py` compares with.

One opening of the document store per passage, one tokenizer call per pair and per text (each text counted twice), ids
padded as lists after their tokenisation, and a search that sorts all scores of every chunk, 512 queries at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perank.model.encoders.encoder import Encoder
from perank.model.encoders.token_batches import length_batches
from perank.model.prompts import PromptBuilder
from perank.records import Passage
from perank.retrieval.dense import similarities
from perank.retrieval.store import EmbeddingStore

_ROWS_PER_CHUNK, BLOCK = 16_384, 512


def passages_of(dataset: Any, ids: Sequence[str]) -> list[Passage]:
    """Look every passage up in a document store of its own."""
    rows = [dataset.docs_store().get(id) for id in ids]
    return [Passage(row.doc_id, row.text) for row in rows]


def length(prompts: PromptBuilder, query: str, texts: Sequence[str]) -> int:
    """Tokens of a prompt with texts, which were all counted once more in case that it was too long."""
    cut = [prompts.cut(prompts.template.clean(text), None) for text in texts]
    tokens = len(prompts._rank(query, len(texts), cut))
    max((prompts.count(text) for text in cut), default=0)
    return tokens


@torch.inference_mode()
def encode(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """Tokenise, then encode, with ids and masks as lists."""
    ids = encoder.tokenizer(list(texts), truncation=True, max_length=encoder.max_length)["input_ids"]
    vectors_BE = torch.empty(len(texts), encoder.width)
    for chosen in length_batches([len(row) for row in ids], encoder.batch_tokens or 1024):
        rows = [ids[i] for i in chosen]
        size, pad = max(map(len, rows)), encoder.tokenizer.pad_token_id or 0
        ids_BL = torch.tensor([row + [pad] * (size - len(row)) for row in rows])
        mask_BL = torch.tensor([[1] * len(row) + [0] * (size - len(row)) for row in rows])
        vectors_BE[chosen] = encoder._pooled(ids_BL, mask_BL)
    return torch.nn.functional.normalize(vectors_BE, dim=-1)


def search(store: EmbeddingStore, queries_QE: Tensor, depth: int) -> list[dict[str, float]]:
    """The best passages of every query, in blocks."""
    found = []
    for start in range(0, len(queries_QE), BLOCK):
        block_QE = queries_QE[start : start + BLOCK]
        for query_E, rows in zip(block_QE, _nearest(store, block_QE, depth), strict=True):
            found.append(_best(store, query_E.numpy(), rows, depth))
    return found


def _nearest(store: EmbeddingStore, queries_QE: Tensor, depth: int) -> list[np.ndarray]:
    slack = queries_QE.shape[1] * torch.finfo(torch.float32).eps
    best_QK = torch.empty(len(queries_QE), 0)
    query_C, row_C = (torch.empty(0, dtype=torch.long) for _ in range(2))
    score_C = torch.empty(0)
    for start, vectors_RE in _chunks(store):
        scores_QR = queries_QE @ vectors_RE.T
        best_QK = torch.cat([best_QK, scores_QR.topk(min(depth, len(vectors_RE))).values], dim=1)
        best_QK = best_QK.topk(min(depth, best_QK.shape[1])).values
        threshold_Q = best_QK[:, -1] - 2 * slack
        new_q, new_r = torch.nonzero(scores_QR >= threshold_Q[:, None], as_tuple=True)
        keep = score_C >= threshold_Q[query_C]
        query_C = torch.cat([query_C[keep], new_q])
        row_C = torch.cat([row_C[keep], new_r + start])
        score_C = torch.cat([score_C[keep], scores_QR[new_q, new_r]])
    by_query_C = query_C.argsort(stable=True)
    counts_Q = torch.bincount(query_C, minlength=len(queries_QE)).cumsum(0)
    return np.split(row_C[by_query_C].numpy(), counts_Q[:-1].tolist())


def _chunks(store: EmbeddingStore) -> Iterator[tuple[int, Tensor]]:
    for first, vectors_NE in store.shards():
        for start in range(0, len(vectors_NE), _ROWS_PER_CHUNK):
            yield first + start, torch.from_numpy(vectors_NE[start : start + _ROWS_PER_CHUNK].astype(np.float32))


def _best(store: EmbeddingStore, query_E: np.ndarray, rows: np.ndarray, depth: int) -> dict[str, float]:
    scores = similarities(query_E, store.vectors(rows)).tolist()
    found = sorted(((score, store.ids.at(row)) for score, row in zip(scores, rows.tolist(), strict=True)), reverse=True)
    return {id: score for score, id in found[:depth]}
