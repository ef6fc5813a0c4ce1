"""Window-length curriculum: how many of a row's candidates are shown at a position of the stream, and which. Pure.

Rows are drawn once, at their full size; early ones are shown in part, so that short windows come first and long ones
when the model knows what a ranking is. A schedule is a list of stages: from a share of the training on, so many
candidates, and so many ranks that are trained.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from perank.errors import BadInput
from perank.training.rows import RankRow


@dataclass(frozen=True, slots=True)
class WindowStage:
    """From the share `since` of the training on: at most `candidates`, and the first `steps` ranks (None: as else)."""

    since: float
    candidates: int
    steps: int | None = None


def schedule_of(curriculum: Sequence[Sequence[float]]) -> list[WindowStage]:
    """The schedule that a setting writes as `[[0, 8, 1], [0.5, 20]]`: 8 candidates and the first rank of them alone,
    from half of the training on 20 candidates.

    Raises `BadInput` unless shares ascend from 0 and stay below 1, candidates are whole numbers from 2 on, and ranks
    from 1 on.
    """
    shares = [stage[0] for stage in curriculum if stage]
    if not all(map(_is_stage, curriculum)) or shares[:1] != [0] or shares != sorted(set(shares)) or shares[-1] >= 1:
        raise BadInput(
            f"not a schedule of window lengths: {[list(stage) for stage in curriculum]}",
            remedy="write [share of the training, candidates] with shares ascending from 0, as in [[0, 10], [0.5, 20]]",
            id="data.curriculum",
        )
    return [WindowStage(float(share), int(n), *map(int, steps)) for share, n, *steps in curriculum]


def stage_at(schedule: Sequence[WindowStage], done: float) -> WindowStage:
    """What holds after the share `done` of the training."""
    return [stage for stage in schedule if stage.since <= done][-1]


def _is_stage(stage: Sequence[float]) -> bool:
    whole = all(float(number).is_integer() for number in stage[1:])
    return len(stage) in (2, 3) and whole and stage[1] >= 2 and min(stage[1:]) >= 1


def shortened(row: RankRow, n: int, seed: int, position: int) -> RankRow:
    """The row with at most n candidates: the teacher's first, and others drawn by seed and position."""
    if n >= len(row.passage_ids):
        return row
    dice = random.Random(f"{seed}:{position}:shortened")
    return row.shown(sorted([row.order[0], *dice.sample(row.order[1:], n - 1)]))
