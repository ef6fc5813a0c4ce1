"""Fusion of the encoder with the first stage, without training and without texts: the baseline that costs nothing.

A candidate's score is a weighted sum of features: its cosine with the query minus 0.05 ln(1 + its first-stage rank) by
default. Options are pseudo-relevance feedback (Rocchio), first-stage scores, smoothing over the candidates' nearest
neighbours, and the scores of a ranker that reads texts. `ReciprocalRankFusion` needs ranks only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from perank.baselines.encoder_ranker import CandidateVectors, best_first
from perank.errors import BadInput, check_least
from perank.records import Bill, Candidates, Ranking
from perank.retrieval.dense import similarities

FEATURES = ("cosine", "log_rank", "feedback", "first_stage", "text")


class TextScorer(Protocol):
    """A ranker that reads texts and whose scores can be added, such as `perank.baselines.splade.SpladeRanker`."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings that determine the scores, as JSON values."""
        ...

    def scored(self, batch: Sequence[Candidates]) -> list[tuple[np.ndarray, Bill]]:
        """Return the scores [N] of each element of `batch`, comparable between queries, and their cost."""
        ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about N candidates of a query: unit vectors, first-stage ranks from 0, and, if any, scores [N]."""

    query_E: np.ndarray
    vectors_NE: np.ndarray
    ranks_N: np.ndarray
    first_stage_N: np.ndarray | None = None
    text_N: np.ndarray | None = None


class Fuse(Protocol):
    """A way to score candidates by evidence, with a text ranker's scores if `scorer` is one."""

    @property
    def scorer(self) -> TextScorer | None: ...

    def scores(self, evidence: Evidence) -> np.ndarray:
        """Return fp64 scores [N]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Weights of the features, which are for a candidate with vector e, a query with vector q:

    - `cosine`: q.e, with q moved by `rocchio` times the mean vector of the `first` best candidates of the first stage.
    - `log_rank`: -ln(1 + r), with r the rank in the first stage, from 0.
    - `feedback`: the cosine of e and the mean of the `first` best candidates of the first stage.
    - `first_stage`: the first stage's score as z-score over the candidates.
    - `text`: the score of `scorer`.

    `standardised` turns `cosine` and `text` into z-scores too (with the population's deviation). `smoothing` is the
    part of a score that comes from the mean of its `neighbours` nearest candidates. Raises `BadInput` for numbers out
    of range, for a weight of `text` without `scorer` or the reverse, and, on use, for a weight of first-stage scores
    where candidates have none.
    """

    cosine: float = 1.0
    log_rank: float = 0.05
    feedback: float = 0.0
    first_stage: float = 0.0
    text: float = 0.0
    scorer: TextScorer | None = None
    standardised: bool = False
    rocchio: float = 0.0
    first: int = 5
    smoothing: float = 0.0
    neighbours: int = 5

    def __post_init__(self) -> None:
        check_least("fusion", 1, first=self.first, neighbours=self.neighbours)
        if not 0 <= self.smoothing <= 1:
            raise BadInput(f"smoothing is {self.smoothing}", remedy="use 0 to 1", id="fusion.smoothing")
        if bool(self.text) != (self.scorer is not None):
            problem = "text has a weight, but there is no scorer" if self.text else "a scorer, but text has no weight"
            raise BadInput(problem, remedy="set both text and scorer, or neither", id="fusion.text")

    @property
    def weights(self) -> dict[str, float]:
        """The weights that aren't 0."""
        return {name: weight for name in FEATURES if (weight := getattr(self, name))}

    @property
    def identity(self) -> dict[str, Any]:
        """All settings, as JSON values."""
        plain = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "scorer"}
        return plain | {"scorer": None if self.scorer is None else dict(self.scorer.identity)}

    def scores(self, evidence: Evidence) -> np.ndarray:
        """Return fp64 scores [N]: the weighted sum of the features."""
        features_NF = self.features(evidence, tuple(self.weights))
        scores: np.ndarray = (features_NF * np.array(list(self.weights.values()))).sum(axis=1)
        return scores

    def features(self, evidence: Evidence, names: Sequence[str]) -> np.ndarray:
        """Return the named features, smoothed, in fp64 [N, F]."""
        columns = [np.asarray(self._feature(name, evidence), dtype=np.float64) for name in names]
        features_NF = np.stack(columns, axis=1) if columns else np.zeros((len(evidence.ranks_N), 0))
        return self._smoothed(features_NF, evidence.vectors_NE)

    def _feature(self, name: str, evidence: Evidence) -> np.ndarray:
        if name == "cosine":
            return self._z(similarities(self._query(evidence), evidence.vectors_NE))
        if name == "log_rank":
            return -np.log1p(evidence.ranks_N.astype(np.float64))
        if name == "feedback":
            return similarities(_unit(self._mean_of_first(evidence)), evidence.vectors_NE)
        found = {"first_stage": evidence.first_stage_N, "text": evidence.text_N}[name]
        if found is None:
            remedy = f"use a run with scores, or set {name} to 0"
            raise BadInput("the candidates have no such scores", remedy=remedy, id=f"fusion.{name}")
        return z_scores(found) if name == "first_stage" else self._z(found)

    def _z(self, scores_N: np.ndarray) -> np.ndarray:
        return z_scores(scores_N) if self.standardised else scores_N

    def _query(self, evidence: Evidence) -> np.ndarray:
        if not self.rocchio:
            return evidence.query_E
        return _unit(evidence.query_E + self.rocchio * self._mean_of_first(evidence))

    def _mean_of_first(self, evidence: Evidence) -> np.ndarray:
        first = np.argsort(evidence.ranks_N, kind="stable")[: self.first]
        mean_E: np.ndarray = evidence.vectors_NE[first].astype(np.float64).mean(axis=0)
        return mean_E

    def _smoothed(self, features_NF: np.ndarray, vectors_NE: np.ndarray) -> np.ndarray:
        if not self.smoothing or len(features_NF) < 2:
            return features_NF
        vectors = vectors_NE.astype(np.float64)
        cosines_NN = vectors @ vectors.T
        np.fill_diagonal(cosines_NN, -np.inf)
        nearest_NK = np.argsort(-cosines_NN, axis=1, kind="stable")[:, : min(self.neighbours, len(vectors) - 1)]
        smoothed: np.ndarray = (1 - self.smoothing) * features_NF + self.smoothing * features_NF[nearest_NK].mean(1)
        return smoothed


@dataclass(frozen=True, kw_only=True)
class ReciprocalRankFusion:
    """The sum of 1 / (k + rank) over the first stage's and the encoder's ranks from 1 (Cormack et al., SIGIR 2009)."""

    k: float = 60.0
    scorer = None

    def __post_init__(self) -> None:
        check_least("fusion", 0, k=self.k)

    def scores(self, evidence: Evidence) -> np.ndarray:
        """Return fp64 scores [N]."""
        cosines_N = similarities(evidence.query_E, evidence.vectors_NE)
        ranks_N = np.empty(len(cosines_N))
        ranks_N[np.lexsort((evidence.ranks_N, -cosines_N))] = np.arange(len(cosines_N))
        return 1 / (self.k + 1 + evidence.ranks_N) + 1 / (self.k + 1 + ranks_N)


class FusionRanker:
    """A `Ranker` that fuses; candidates are in the order of the first stage. Ties are broken by id descending."""

    def __init__(self, fusion: Fuse, vectors: CandidateVectors) -> None:
        self.fusion, self.vectors = fusion, vectors

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order."""
        known = iter(self.evidence([candidates for candidates in batch if len(candidates)]))
        return [self._rank(found, *next(known)) if len(found) else Ranking(found, ()) for found in batch]

    def evidence(self, batch: Sequence[Candidates]) -> list[tuple[Evidence, Bill]]:
        """Return what is known about each element of `batch`, none of them empty, and the cost of knowing it."""
        scorer = self.fusion.scorer
        texts = [(None, Bill())] * len(batch) if scorer is None else scorer.scored(batch)
        return [self._known(candidates, *text) for candidates, text in zip(batch, texts, strict=True)]

    def _rank(self, candidates: Candidates, evidence: Evidence, bill: Bill) -> Ranking:
        return Ranking(candidates, best_first(candidates, self.fusion.scores(evidence)), bill)

    def _known(self, candidates: Candidates, text_N: np.ndarray | None, bill: Bill) -> tuple[Evidence, Bill]:
        query_E, vectors_NE, seconds = self.vectors.of(candidates)
        first_stage_N = np.array(candidates.scores) if candidates.scores else None
        evidence = Evidence(query_E, vectors_NE, np.arange(len(candidates)), first_stage_N, text_N)
        return evidence, bill + Bill(seconds_encode=seconds)


def z_scores(scores_N: np.ndarray) -> np.ndarray:
    """Return (score - mean) / deviation of the population in fp64; zeros if all scores are equal."""
    centred_N = scores_N.astype(np.float64) - scores_N.mean(dtype=np.float64)
    deviation = float(np.sqrt((centred_N**2).mean()))
    return centred_N / deviation if deviation > 1e-6 else np.zeros_like(centred_N)


def _unit(vector_E: np.ndarray) -> np.ndarray:
    return vector_E / max(float(np.linalg.norm(vector_E)), 1e-9)
