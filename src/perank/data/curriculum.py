"""Window-length curriculum: how many of a row's candidates are shown at a position of the stream, and which. Pure.

Rows are drawn once, at their full size; early ones are shown in part, so that short windows come first and long ones
when the model knows what a ranking is. A schedule is a list of (share of the training, candidates).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from perank.data.rows import RankRow
from perank.errors import BadInput

Schedule = Sequence[tuple[float, int]]


def schedule_of(curriculum: Sequence[Sequence[float]]) -> list[tuple[float, int]]:
    """The schedule that a setting writes as `[[0, 10], [0.5, 20]]`: from half of the training on, 20 candidates.

    Raises `BadInput` unless shares ascend from 0 and stay below 1, and candidates are whole numbers from 2 on.
    """
    shares = [stage[0] for stage in curriculum]
    right = all(len(stage) == 2 and stage[1] >= 2 and float(stage[1]).is_integer() for stage in curriculum)
    if not right or not shares or shares[0] != 0 or shares != sorted(set(shares)) or shares[-1] >= 1:
        raise BadInput(
            f"not a schedule of window lengths: {[list(stage) for stage in curriculum]}",
            remedy="write [share of the training, candidates] with shares ascending from 0, as in [[0, 10], [0.5, 20]]",
            id="data.curriculum",
        )
    return [(float(share), int(candidates)) for share, candidates in curriculum]


def allowed(schedule: Schedule, done: float) -> int:
    """How many candidates at most, after the share `done` of the training."""
    return [candidates for share, candidates in schedule if share <= done][-1]


def shortened(row: RankRow, n: int, seed: int, position: int) -> RankRow:
    """The row with at most n candidates: the teacher's first, and others drawn by seed and position."""
    if n >= len(row.passage_ids):
        return row
    dice = random.Random(f"{seed}:{position}:curriculum")
    kept = sorted([row.order[0], *dice.sample(row.order[1:], n - 1)])
    place = {candidate: i for i, candidate in enumerate(kept)}
    order = tuple(place[candidate] for candidate in row.order if candidate in place)
    return RankRow(row.query, tuple(row.passage_ids[candidate] for candidate in kept), order)
