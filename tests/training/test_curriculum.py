"""Rows shown in part keep the teacher's order, its first passage, and their whole when there is room."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.records import Query
from perank.training.curriculum import WindowStage, schedule_of, shortened, stage_at
from perank.training.rows import RankRow


@given(size=st.integers(2, 30), n=st.integers(2, 40), seed=st.integers(0, 5), position=st.integers(0, 99))
def test_a_shortened_row_is_the_row_without_some_candidates(size: int, n: int, seed: int, position: int) -> None:
    order = list(range(size))
    random.Random(seed).shuffle(order)
    row = RankRow(Query("q", "query"), tuple(f"p{i}" for i in range(size)), tuple(order))
    short = shortened(row, n, seed, position)
    assert len(short.passage_ids) == min(n, size)
    before, after = ([one.passage_ids[i] for i in one.order] for one in (row, short))
    assert after[0] == before[0] and after == [id for id in before if id in short.passage_ids]
    assert [id for id in row.passage_ids if id in short.passage_ids] == list(short.passage_ids)
    assert short == shortened(row, n, seed, position)


def test_which_candidates_are_left_out_changes_with_the_position() -> None:
    row = RankRow(Query("q", "query"), tuple("abcdefghij"), tuple(range(10)))
    assert len({shortened(row, 4, 0, position).passage_ids for position in range(20)}) > 10


def test_the_schedule_goes_by_the_share_of_the_training() -> None:
    schedule = schedule_of([[0, 10, 1], [0.25, 20], [0.5, 100, 5]])
    found = [stage_at(schedule, done) for done in (0, 0.2, 0.25, 0.49, 0.5, 0.99)]
    stages = [WindowStage(0, 10, 1), WindowStage(0.25, 20), WindowStage(0.5, 100, 5)]
    assert found == [stage for stage in stages for _ in range(2)]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [[0.1, 20]],
        [[0, 20], [0, 30]],
        [[0, 1]],
        [[0, 20.5]],
        [[0, 20], [1, 30]],
        [[0, 2], [0.5, 9, 0]],
        [[0, 2, 1, 1]],
        [[]],
    ],
)
def test_a_schedule_that_is_none_is_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(BadInput, match=r"data\.curriculum.*schedule"):
        schedule_of(wrong)
