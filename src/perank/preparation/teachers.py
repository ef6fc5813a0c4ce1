"""Teachers: the order a row's candidates should end in. Grades first, then a scorer's opinion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from perank.errors import BadInput
from perank.records import Candidates, Qrels, Query, Ranking, Run, Vectors, rank_order


class Teacher(Protocol):
    """Scores a query's candidates; higher is better."""

    def scores(self, query: Query, passage_ids: Sequence[str]) -> list[float]:
        """One score a passage."""
        ...


class RunTeacher:
    """An existing run's scores (a published reranker's, a cross-encoder's): it has to score every candidate."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def scores(self, query: Query, passage_ids: Sequence[str]) -> list[float]:
        known = self.run.get(query.id, {})
        for id in passage_ids:
            if id not in known:
                raise BadInput(
                    f"the teacher's run doesn't score passage {id!r}",
                    remedy="draw candidates from the teacher's own run",
                    id=query.id,
                )
        return [known[id] for id in passage_ids]


class EncoderTeacher:
    """The encoder's similarity, from stored vectors."""

    def __init__(self, query_vectors: Vectors, passage_vectors: Vectors) -> None:
        self.query_vectors, self.passage_vectors = query_vectors, passage_vectors

    def scores(self, query: Query, passage_ids: Sequence[str]) -> list[float]:
        query_E = self.query_vectors.get([query.id])[0]
        similarities: list[float] = (self.passage_vectors.get(list(passage_ids)) @ query_E).tolist()
        return similarities


class FusedTeacher:
    """The encoder's similarity less `weight` times ln(rank) in a first-stage run: two opinions that err differently.

    A passage the run lacks ranks behind its last. Raises `BadInput` for a weight below 0.
    """

    def __init__(self, encoder: EncoderTeacher, run: Run, weight: float = 0.05) -> None:
        if not weight >= 0:
            raise BadInput(f"the weight is {weight}", remedy="use 0 or more", id="teacher.weight")
        self.encoder, self.run, self.weight = encoder, run, weight

    def scores(self, query: Query, passage_ids: Sequence[str]) -> list[float]:
        ranks = {id: rank for rank, id in enumerate(rank_order(self.run.get(query.id, {})), start=1)}
        similarities = self.encoder.scores(query, passage_ids)
        return [
            similarity - self.weight * math.log(ranks.get(id, len(ranks) + 1))
            for id, similarity in zip(passage_ids, similarities, strict=True)
        ]


def teacher_order(query: Query, passage_ids: Sequence[str], qrels: Qrels, teacher: Teacher) -> tuple[int, ...]:
    """Positions best first: by grade, then by the teacher's score, then by id, so that the order is total."""
    grades = qrels.get(query.id, {})
    scores = teacher.scores(query, passage_ids)
    keys = [(-grades.get(id, 0), -score, id) for id, score in zip(passage_ids, scores, strict=True)]
    return tuple(sorted(range(len(keys)), key=keys.__getitem__))


class TeacherRanker:
    """A `Ranker` out of a teacher's scores: best first, equal ones by passage id."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        return [self._rank(candidates) for candidates in batch]

    def _rank(self, candidates: Candidates) -> Ranking:
        ids = [passage.id for passage in candidates.passages]
        return Ranking(candidates, teacher_order(candidates.query, ids, {}, self.teacher))
