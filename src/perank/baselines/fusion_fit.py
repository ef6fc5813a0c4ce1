"""Weights of a fusion by maximum likelihood on judged queries, which are never those of a test.

The scores are logits. `first_pick` is the likelihood that the passage picked first is a relevant one, each in
proportion to its grade. `list_mle` is the likelihood of the judged order (Plackett-Luce): each relevant passage is
picked before all passages of lower grades; those of its own grade don't compete. Both are concave in the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from perank.baselines.encoder_ranker import CandidateVectors
from perank.baselines.fusion import FEATURES, Fusion, FusionRanker
from perank.errors import BadInput, check_distinct
from perank.records import Candidates, Qrels

log = logging.getLogger(__name__)

_BLOCK = 64  # queries whose vectors are held at once
_RIDGE = 1e-6  # on the weights of features of deviation 1: bounds them if a feature separates all queries


class Judged(Protocol):
    """Judged queries with candidates, such as `perank.evaluation.suites.Suite`."""

    name: str

    def candidates(self) -> list[Candidates]: ...

    def qrels(self) -> Qrels: ...


@dataclass(frozen=True, kw_only=True)
class FittedFusion:
    """A `Fusion` whose weights of `features` are fitted on the queries of `judged`; the weights of others are 0.

    `shape` has the settings that aren't fitted. Raises `BadInput` for an unknown or repeated feature, and another
    likelihood.
    """

    judged: Judged
    features: Sequence[str] = ("cosine", "log_rank", "feedback")
    likelihood: str = "first_pick"
    shape: Fusion = field(default_factory=Fusion)

    def __post_init__(self) -> None:
        known = [name for name in FEATURES if name != "text" or self.shape.scorer is not None]
        if not self.features or not set(self.features) <= set(known):
            problem, remedy = f"can't fit the features {list(self.features)}", f"choose among {', '.join(known)}"
            raise BadInput(problem, remedy=remedy, id="fusion.features")
        check_distinct("fusion.features", self.features)
        if self.likelihood not in LIKELIHOODS:
            remedy = f"choose {' or '.join(LIKELIHOODS)}"
            raise BadInput(f"unknown likelihood {self.likelihood!r}", remedy=remedy, id="fusion.likelihood")

    def fit(self, vectors: CandidateVectors) -> Fusion:
        """Return the fusion with fitted weights. Raises `BadInput` if no query has a relevant candidate."""
        qrels = self.judged.qrels()
        graded = [(found, _grades(found, qrels[found.query.id])) for found in self.judged.candidates()]
        graded = [(found, grades) for found, grades in graded if any(grades)]
        if not graded:
            raise BadInput("no query has a relevant candidate", remedy="fit on other queries", id=self.judged.name)
        features = self._features([found for found, _ in graded], FusionRanker(self.shape, vectors))
        weights = fitted_weights(features, [grades for _, grades in graded], self.likelihood)
        fitted: dict[str, Any] = dict.fromkeys(FEATURES, 0.0) | dict(zip(self.features, weights, strict=True))
        log.info("%s: fitted on %d queries of %s", described(fitted), len(graded), self.judged.name)
        return replace(self.shape, **fitted)

    def _features(self, candidates: Sequence[Candidates], ranker: FusionRanker) -> list[np.ndarray]:
        blocks = [candidates[start : start + _BLOCK] for start in range(0, len(candidates), _BLOCK)]
        known = (evidence for block in blocks for evidence, _ in ranker.evidence(block))
        return [self.shape.features(evidence, self.features) for evidence in known]


def described(weights: dict[str, float]) -> str:
    """Return weights such as `15.29 cosine + 0.712 log_rank`."""
    return " + ".join(f"{weight:.4g} {name}" for name, weight in weights.items() if weight)


def fitted_weights(
    features: Sequence[np.ndarray], grades: Sequence[Sequence[int]], likelihood: str = "first_pick"
) -> list[float]:
    """Return the weights [F] of greatest mean likelihood over queries with features [N, F] and grades [N] from 0."""
    x_QNF, grades_QN, mask_QN = _padded(features, grades)
    deviation_F = x_QNF[mask_QN].std(dim=0).clamp_min(1e-12)
    x_QNF, weights_F = x_QNF / deviation_F, torch.zeros_like(deviation_F, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights_F], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores_QN = (x_QNF @ weights_F).masked_fill(~mask_QN, -torch.inf)
        likelihood_Q = LIKELIHOODS[likelihood](scores_QN, grades_QN)
        value: Tensor = _RIDGE * weights_F.square().sum() - likelihood_Q.mean()
        value.backward()
        return value

    optimizer.step(loss)
    fitted: list[float] = (weights_F.detach() / deviation_F).tolist()
    return fitted


def first_pick(scores_QN: Tensor, grades_QN: Tensor) -> Tensor:
    """Return per query [Q] the mean log-probability of being picked first, over relevant passages by grade."""
    logs_QN = scores_QN.log_softmax(dim=1).masked_fill(grades_QN == 0, 0.0)
    return (logs_QN * grades_QN).sum(dim=1) / grades_QN.sum(dim=1)


def list_mle(scores_QN: Tensor, grades_QN: Tensor) -> Tensor:
    """Return per query [Q] the mean log-probability of relevant passages being picked before those of lower grades."""
    others_QNN = (grades_QN[:, None, :] < grades_QN[:, :, None]) | torch.eye(grades_QN.shape[1], dtype=torch.bool)
    rivals_QNN = scores_QN[:, None, :].masked_fill(~others_QNN, -torch.inf)
    relevant_QN = grades_QN > 0
    logs_QN = torch.where(relevant_QN, scores_QN, 0.0) - torch.where(relevant_QN, rivals_QNN.logsumexp(dim=2), 0.0)
    return logs_QN.sum(dim=1) / relevant_QN.sum(dim=1)


LIKELIHOODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"first_pick": first_pick, "list_mle": list_mle}


def _grades(candidates: Candidates, judged: dict[str, int]) -> list[int]:
    return [max(0, judged.get(passage.id, 0)) for passage in candidates.passages]


def _padded(features: Sequence[np.ndarray], grades: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return features [Q, N, F], grades and mask [Q, N], in fp64."""
    pad = torch.nn.utils.rnn.pad_sequence
    x_QNF = pad([torch.from_numpy(found) for found in features], batch_first=True)
    grades_QN = pad([torch.tensor(row, dtype=torch.float64) for row in grades], batch_first=True)
    mask_QN = pad([torch.ones(len(row), dtype=torch.bool) for row in grades], batch_first=True)
    return x_QNF, grades_QN, mask_QN
