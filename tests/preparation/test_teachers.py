"""Teachers' orders: judged grades before any opinion, and total, so that ties don't depend on anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.preparation.teachers import EncoderTeacher, FusedTeacher, RunTeacher, teacher_order
from perank.records import Query

QUERY = Query("q", "a query")


class Known:
    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors

    def get(self, ids: Sequence[str]) -> np.ndarray:
        return np.array([self.vectors[id] for id in ids], dtype=np.float32)


def test_the_encoder_scores_by_inner_product() -> None:
    teacher = EncoderTeacher(Known({"q": [1.0, 2.0]}), Known({"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [-1.0, 1.0]}))
    assert teacher.scores(QUERY, ["a", "b", "c"]) == [1.0, 2.0, 1.0]


def test_a_run_scores_what_it_holds_and_says_what_it_does_not() -> None:
    teacher = RunTeacher({"q": {"a": 3.0, "b": 1.0}})
    assert teacher.scores(QUERY, ["b", "a"]) == [1.0, 3.0]
    with pytest.raises(BadInput, match="doesn't score passage 'c'") as caught:
        teacher.scores(QUERY, ["a", "c"])
    assert caught.value.id == "q"
    with pytest.raises(BadInput):
        teacher.scores(Query("other", "x"), ["a"])


@given(
    scores=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.0, 1.0, 2.0]), min_size=1),
    grades=st.dictionaries(st.sampled_from("abcdefxy"), st.integers(-1, 3)),
)
def test_grades_come_first_then_scores_then_ids_whatever_the_order_of_the_candidates(
    scores: dict[str, float], grades: dict[str, int]
) -> None:
    teacher, found = RunTeacher({"q": scores}), set()
    for ids in (sorted(scores), sorted(scores, reverse=True)):
        order = teacher_order(QUERY, ids, {"q": grades}, teacher)
        found.add(tuple(ids[i] for i in order))
    assert len(found) == 1
    ranked = found.pop()
    assert sorted(ranked) == sorted(scores)
    for better, worse in pairwise(ranked):
        assert (grades.get(better, 0), scores[better]) >= (grades.get(worse, 0), scores[worse])


def test_a_fused_opinion_is_similarity_less_the_log_of_the_rank() -> None:
    known = Known({"q": [1.0, 0.0], "a": [0.9, 0.0], "b": [0.8, 0.0], "c": [0.7, 0.0]})
    teacher = FusedTeacher(EncoderTeacher(known, known), {"q": {"c": 9.0, "a": 2.0}}, weight=0.1)
    found = teacher.scores(QUERY, ["a", "b", "c"])
    # c is first of the run, a second, and b, which the run lacks, third
    assert found == pytest.approx([0.9 - 0.1 * math.log(2), 0.8 - 0.1 * math.log(3), 0.7])
    assert FusedTeacher(EncoderTeacher(known, known), {}, weight=0.0).scores(QUERY, ["a", "b"]) == pytest.approx(
        [0.9, 0.8]
    )
    with pytest.raises(BadInput, match="the weight is -1"):
        FusedTeacher(EncoderTeacher(known, known), {}, weight=-1)
