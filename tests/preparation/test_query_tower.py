"""The tower that teaches a reader: words as vectors, trained on a sparse encoder's scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from perank.errors import BadInput
from perank.model.encoders.sparse import SparseVector
from perank.preparation.query_tower import TargetVectors, TowerData, TowerSettings, tower_vectors

WORDS, WIDTH = 30, 12
SETTINGS = TowerSettings(steps=60, batch=32, pool=200, lr=0.02)


def world(passages: int = 300, queries: int = 80) -> TowerData:
    """Passages whose sparse weights can be read off their vectors, up to noise, and queries of two words."""
    random = torch.Generator().manual_seed(0)
    meanings_VE = torch.randn(WORDS, WIDTH, generator=random)
    passages_XE = normalize(torch.randn(passages, WIDTH, generator=random), dim=1)
    weights_XV = 5 + passages_XE @ meanings_VE.T + 0.1 * torch.rand(passages, WORDS, generator=random)
    contents = [SparseVector(np.arange(WORDS), row.numpy(), 5, 0.0) for row in weights_XV]
    pairs = torch.stack([torch.randperm(WORDS, generator=random)[:2] for _ in range(queries)]).numpy()
    words = [SparseVector(pair, np.ones(2, dtype=np.float32), 2, 0.0) for pair in pairs]
    queries_QE = normalize(torch.randn(queries, WIDTH, generator=random), dim=1)
    relevant = [[int(place)] for place in torch.randint(passages, (queries,), generator=random)]
    return TowerData(queries_QE, words, passages_XE, contents, relevant)


def correlation(vectors_QE: np.ndarray, data: TowerData) -> float:
    """Of the sparse scores and the vectors' estimates, both centred per query."""
    sparse = np.array([[p.weights[q.entries].sum() / q.length for p in data.contents] for q in data.words])
    learned = vectors_QE @ (data.passages_XE - data.passages_XE.mean(0)).numpy().T
    centred = [values - values.mean(1, keepdims=True) for values in (sparse, learned)]
    return float(np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1])


def test_targets_estimate_the_sparse_scores_at_their_weight() -> None:
    data = world()
    vectors_QE = tower_vectors(data, SETTINGS, WORDS, progress=False)
    assert correlation(vectors_QE, data) > 0.9
    twice = tower_vectors(data, replace(SETTINGS, weight=0.4), WORDS, progress=False)
    assert np.linalg.norm(twice) > 1.5 * np.linalg.norm(vectors_QE)


def test_training_improves_on_the_regression_it_starts_from() -> None:
    data = world()
    start, end = (tower_vectors(data, replace(SETTINGS, steps=steps), WORDS, progress=False) for steps in (1, 60))
    assert divergence(end, data) < divergence(start, data)


def divergence(vectors_QE: np.ndarray, data: TowerData) -> float:
    """KL from the teacher's softmax over all passages to the targets'."""
    centred_XE = data.passages_XE - data.passages_XE.mean(0)
    cosine_QX = data.queries_QE @ data.passages_XE.T
    sparse = np.array([[p.weights[q.entries].sum() / q.length for p in data.contents] for q in data.words])
    target = ((cosine_QX + 0.2 * torch.from_numpy(sparse).float()) / 0.05).log_softmax(1)
    learned = ((cosine_QX + torch.from_numpy(vectors_QE) @ centred_XE.T) / 0.05).log_softmax(1)
    return float((target.exp() * (target - learned)).sum(1).mean())


def test_the_same_seed_gives_the_same_targets() -> None:
    data = world()
    again = [tower_vectors(data, SETTINGS, WORDS, progress=False) for _ in range(2)]
    assert np.array_equal(*again)


def test_vectors_are_found_by_id() -> None:
    vectors_QE = np.arange(6, dtype=np.float16).reshape(3, 2)
    found = TargetVectors(["a", "b", "c"], vectors_QE).get(["c", "a"])
    assert found.tolist() == [[4.0, 5.0], [0.0, 1.0]] and found.dtype == np.float32


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"pool": 0}, {"weight": 0.0}, {"lr": float("inf")}, {"temperature": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        TowerSettings(**wrong)
