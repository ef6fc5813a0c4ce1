"""Teachers (conf/teacher), which give the target order of a row's candidates, in training and in `perank.prepare`.

To add a teacher, write a class with `scores`, `identity` and `judged_first`, and name it in conf/teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from perank.baselines.fusion import Evidence, Fusion
from perank.errors import BadInput
from perank.files import sha256
from perank.records import Candidates, Qrels, Ranker, Run, Vectors, rank_order
from perank.sources import read_run

Identity = tuple[str, Any]
"""What an order depends on besides candidates and vectors: a file's checksum (or ""), and settings as JSON values."""


class Sources(Protocol):
    """Inputs of teachers: the encoder's vectors by id, and the first stage's run."""

    @property
    def query_vectors(self) -> Vectors: ...

    @property
    def store(self) -> Vectors: ...

    @property
    def run(self) -> Run: ...


class Teacher(Protocol):
    """Scores candidates. `judged_first` ranks relevant ones above the others (None: use the rows' setting)."""

    @property
    def judged_first(self) -> bool | None: ...

    @property
    def identity(self) -> Identity: ...

    def scores(self, batch: Sequence[Candidates], sources: Sources) -> list[list[float]]:
        """Return one score per candidate for each element of `batch`; higher is better."""
        ...


@dataclass(frozen=True, kw_only=True)
class EncoderTeacher:
    """The encoder's similarity, from stored vectors."""

    judged_first: bool | None = None
    identity = ("", None)

    def scores(self, batch: Sequence[Candidates], sources: Sources) -> list[list[float]]:
        return [_similarities(candidates, sources) for candidates in batch]


@dataclass(frozen=True, kw_only=True)
class RunTeacher:
    """The scores of an existing run, such as a published reranker's; it must score every candidate."""

    path: str | Path
    judged_first: bool | None = None

    @property
    def identity(self) -> Identity:
        """The file's checksum. Raises `BadInput` if it can't be read."""
        try:
            return sha256(self.path), None
        except OSError as error:
            problem = f"can't be read: {error.strerror}"
            raise BadInput(problem, remedy="check teacher.path", path=self.path) from error

    @cached_property
    def run(self) -> Run:
        """The run in the file."""
        return read_run(self.path)

    def scores(self, batch: Sequence[Candidates], sources: Sources) -> list[list[float]]:
        return [self._scores(candidates) for candidates in batch]

    def _scores(self, candidates: Candidates) -> list[float]:
        known, ids = self.run.get(candidates.query.id, {}), _ids(candidates)
        if (unknown := next((id for id in ids if id not in known), None)) is not None:
            problem = f"the teacher's run doesn't score passage {unknown!r}"
            raise BadInput(problem, remedy="draw candidates from the teacher's own run", id=candidates.query.id)
        return [known[id] for id in ids]


@dataclass(frozen=True, kw_only=True)
class FusedTeacher:
    """The encoder's similarity minus `weight` times ln(rank in the first stage), whose errors differ.

    `fusion` replaces this one, `Fusion(log_rank=weight)`, by another, such as with a text ranker's scores. A passage
    that the first stage misses ranks after its last. Raises `BadInput` for a weight below 0.
    """

    weight: float = 0.05
    judged_first: bool | None = False
    fusion: Fusion | None = None

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise BadInput(f"the weight is {self.weight}", remedy="use 0 or more", id="teacher.weight")

    @property
    def fused(self) -> Fusion:
        """The fusion whose scores are the opinion."""
        return self.fusion or Fusion(log_rank=self.weight)

    @property
    def identity(self) -> Identity:
        return "", self.fused.identity

    def scores(self, batch: Sequence[Candidates], sources: Sources) -> list[list[float]]:
        return [self.fused.scores(evidence).tolist() for evidence in self._evidence(batch, sources)]

    def _evidence(self, batch: Sequence[Candidates], sources: Sources) -> Iterator[Evidence]:
        scorer = self.fused.scorer
        texts = [None] * len(batch) if scorer is None else [text for text, _ in scorer.scored(batch)]
        for candidates, text_N in zip(batch, texts, strict=True):
            yield Evidence(
                query_E=sources.query_vectors.get([candidates.query.id])[0],
                vectors_NE=sources.store.get(_ids(candidates)),
                ranks_N=np.array(_first_stage_ranks(candidates, sources)) - 1,
                first_stage_N=np.array(candidates.scores) if candidates.scores else None,
                text_N=text_N,
            )


@dataclass(frozen=True, kw_only=True)
class RankerTeacher:
    """The order of any ranker, such as a cross-encoder or an LLM; `ranker` loads it on first use.

    `made_of` has its settings. Raises `BadInput` if the loaded object isn't a `Ranker`.
    """

    ranker: Callable[[], Ranker]
    made_of: Mapping[str, Any] | None = None
    judged_first: bool | None = None

    @property
    def identity(self) -> Identity:
        return "", dict(self.made_of or {})

    @cached_property
    def loaded(self) -> Ranker:
        """The loaded ranker."""
        ranker = self.ranker()
        if not isinstance(ranker, Ranker):
            raise BadInput("the teacher is not a ranker", remedy="name a class with rank_batch", id="teacher.ranker")
        return ranker

    def scores(self, batch: Sequence[Candidates], sources: Sources) -> list[list[float]]:
        """Return negative ranks."""
        found = []
        for ranking in self.loaded.rank_batch(batch):
            place = {position: rank for rank, position in enumerate(ranking.order)}
            found.append([-float(place[position]) for position in range(len(place))])
        return found


def teacher_orders(
    teacher: Teacher, candidates: Iterable[Candidates], sources: Sources, judged: Qrels, batch_size: int = 64
) -> Iterator[tuple[Candidates, tuple[int, ...]]]:
    """Yield each element of `candidates` with its positions, best first; `batch_size` of them are scored together.

    Sorted by grade in `judged`, then by the teacher's score, then by id, so that the order is total.
    """
    asked = iter(candidates)
    while batch := list(islice(asked, batch_size)):
        for found, scores in zip(batch, teacher.scores(batch, sources), strict=True):
            yield found, _order(_ids(found), judged.get(found.query.id, {}), scores)


def _order(ids: Sequence[str], grades: Mapping[str, int], scores: Sequence[float]) -> tuple[int, ...]:
    keys = [(-grades.get(id, 0), -score, id) for id, score in zip(ids, scores, strict=True)]
    return tuple(sorted(range(len(keys)), key=keys.__getitem__))


def _similarities(candidates: Candidates, sources: Sources) -> list[float]:
    query_E = sources.query_vectors.get([candidates.query.id])[0]
    similarities: list[float] = (sources.store.get(_ids(candidates)) @ query_E).tolist()
    return similarities


def _first_stage_ranks(candidates: Candidates, sources: Sources) -> list[int]:
    """Return ranks from 1; candidates that the first stage misses have the one after its last."""
    ids = _ids(candidates)
    # Candidates with scores come from the first stage; others were drawn from another pool.
    found = dict(zip(ids, candidates.scores, strict=True)) if candidates.scores else None
    ranked = rank_order(sources.run.get(candidates.query.id, {}) if found is None else found)
    ranks = {id: rank for rank, id in enumerate(ranked, start=1)}
    return [ranks.get(id, len(ranks) + 1) for id in ids]


def _ids(candidates: Candidates) -> list[str]:
    return [passage.id for passage in candidates.passages]
