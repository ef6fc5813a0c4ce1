"""What a reader is taught: for every text a vector whose inner products with passage vectors say what words add.

A sparse encoder (SPLADE) compares a query's words with a passage's text; an LLM over vectors can't. As much of it as
vectors hold is learned first, without the LLM: every vocabulary entry v has a vector m_v, a text with weights w_v has

    t = sum_v w_v m_v / |w|,    score(text, e) = cos(e_q, e) + t . (e - mean e),

and all m_v are trained so that the scores' softmax over passages is that of the teacher, cos + `weight` times the
sparse inner product divided by |w|. They begin with the ridge regression from vectors to sparse weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput, check_least
from perank.model.encoders.sparse import SparseVector

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, slots=True)
class TowerData:
    """Texts and passages: unit vectors [Q, E] and [X, E], sparse weights, and each text's relevant passages' places."""

    queries_QE: Tensor
    words: Sequence[SparseVector]
    passages_XE: Tensor
    contents: Sequence[SparseVector]
    relevant: Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class TowerSettings:
    """`weight` of the sparse scores, `steps` of `batch` texts against `pool` passages, `temperature` of the softmax.

    Raises `BadInput` for values out of range.
    """

    weight: float = 0.2
    steps: int = 300
    batch: int = 512
    pool: int = 6000
    lr: float = 1e-3
    temperature: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_least("target", 1, steps=self.steps, batch=self.batch, pool=self.pool)
        for name in ("weight", "lr", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInput(f"the value is {getattr(self, name)}", remedy="use more than 0", id=f"target.{name}")


def tower_vectors(data: TowerData, settings: TowerSettings, width: int, *, progress: bool = True) -> np.ndarray:
    """Train the entries' vectors on `data`, with a vocabulary of `width`; return every text's vector t, [Q, E]."""
    words, contents = _unit_rows(data.words, width), _rows(data.contents, width)
    mean_E = data.passages_XE.mean(0)
    centred_XE = data.passages_XE - mean_E
    entries_VE = torch.nn.Parameter(_ridge_start(centred_XE, contents) * settings.weight)
    optimizer = torch.optim.Adam([entries_VE], lr=settings.lr)
    draw = np.random.default_rng(settings.seed)
    for step in _steps(settings.steps, progress):
        optimizer.param_groups[0]["lr"] = settings.lr * max(0.02, 0.5 * (1 + math.cos(math.pi * step / settings.steps)))
        chosen = draw.choice(len(words.indptr) - 1, min(settings.batch, len(data.words)), replace=False)
        pool = _pool(chosen, data, settings.pool, draw)
        cosine_BX = data.queries_QE[chosen] @ data.passages_XE[pool].T
        sparse_BX = torch.from_numpy((words[chosen] @ contents[pool].T).toarray().astype(np.float32))
        target_BX = ((cosine_BX + settings.weight * sparse_BX) / settings.temperature).log_softmax(1)
        learned_BX = _sums(words[chosen], entries_VE) @ centred_XE[pool].T
        scores_BX = ((cosine_BX + learned_BX) / settings.temperature).log_softmax(1)
        loss = (target_BX.exp() * (target_BX - scores_BX)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vectors_QE: np.ndarray = (words @ entries_VE.detach().numpy()).astype(np.float32)
    return vectors_QE


def _steps(count: int, progress: bool) -> Any:
    from tqdm import trange

    return trange(count, desc="tower", unit="step", disable=not progress)


def _pool(chosen: np.ndarray, data: TowerData, size: int, draw: np.random.Generator) -> np.ndarray:
    """The texts' relevant passages and random others, sorted."""
    relevant = [place for text in chosen for place in data.relevant[text]]
    others = draw.integers(0, len(data.passages_XE), min(size, len(data.passages_XE)))
    return np.unique(np.concatenate([np.array(relevant, dtype=np.int64), others]))


def _ridge_start(centred_XE: Tensor, contents: sparse.csr_matrix) -> Tensor:
    """[V, E]: the ridge regression from passages' vectors to their sparse weights, transposed."""
    deviation = centred_XE.square().mean().sqrt()
    standard_XE = (centred_XE / deviation).double()
    gram_EE = standard_XE.T @ standard_XE
    gram_EE += 0.02 * gram_EE.diagonal().mean() * torch.eye(len(gram_EE), dtype=gram_EE.dtype)
    products_EV = torch.from_numpy((contents.T @ standard_XE.numpy()).T.copy())
    return (torch.linalg.solve(gram_EE, products_EV) / deviation).T.float().contiguous()


def _rows(vectors: Sequence[SparseVector], width: int) -> sparse.csr_matrix:
    from scipy import sparse

    starts = np.cumsum([0, *(len(vector.entries) for vector in vectors)])
    entries = np.concatenate([vector.entries for vector in vectors])
    weights = np.concatenate([vector.weights for vector in vectors])
    return sparse.csr_matrix((weights, entries, starts), shape=(len(vectors), width))


def _unit_rows(vectors: Sequence[SparseVector], width: int) -> sparse.csr_matrix:
    from scipy import sparse

    lengths = np.array([max(vector.length, 1e-6) for vector in vectors], dtype=np.float32)
    return sparse.csr_matrix(sparse.diags(1 / lengths) @ _rows(vectors, width))


def _sums(rows: sparse.csr_matrix, entries_VE: Tensor) -> Tensor:
    """The rows' weighted sums of the entries' vectors, with gradients, [B, E]."""
    index, starts, weights = (torch.from_numpy(part) for part in (rows.indices, rows.indptr[:-1], rows.data))
    weights = weights.to(entries_VE.dtype)
    return torch.nn.functional.embedding_bag(
        index.long(), entries_VE, starts.long(), mode="sum", per_sample_weights=weights
    )


class TargetVectors:
    """Every text's target by id, [Q, E] in an array or a memory-mapped file."""

    def __init__(self, ids: Sequence[str], vectors_QE: np.ndarray) -> None:
        self._places = {id: place for place, id in enumerate(ids)}
        self.vectors_QE = vectors_QE

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """Return [len(ids), E] in fp32."""
        return np.asarray(self.vectors_QE[[self._places[id] for id in ids]], dtype=np.float32)
