"""Window-length curriculum: which of a row's candidates are shown at each position of the stream. Pure functions.

Early rows are shown with fewer candidates, so short windows come before long ones. A schedule is a list of stages; each
sets the number of candidates, and of ranks that are trained, from a given fraction of the training.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from perank.errors import BadInput
from perank.training.rows import RankRow


@dataclass(frozen=True, slots=True)
class WindowStage:
    """From the fraction `since` of the training: at most `candidates`, and the first `steps` ranks (None: default)."""

    since: float
    candidates: int
    steps: int | None = None


def schedule_of(curriculum: Sequence[Sequence[float]]) -> list[WindowStage]:
    """Parse a schedule such as `[[0, 8, 1], [0.5, 20]]`: 8 candidates with rank 1 only, then 20 from half the training.

    Raises `BadInput` unless fractions ascend from 0 and stay below 1, candidates are integers >= 2 and ranks >= 1.
    """
    shares = [stage[0] for stage in curriculum if stage]
    if not all(map(_is_stage, curriculum)) or shares[:1] != [0] or shares != sorted(set(shares)) or shares[-1] >= 1:
        raise BadInput(
            f"not a schedule of window lengths: {[list(stage) for stage in curriculum]}",
            remedy="use [fraction of the training, candidates], fractions ascending from 0, as in [[0, 10], [0.5, 20]]",
            id="data.curriculum",
        )
    return [WindowStage(float(share), int(n), *map(int, steps)) for share, n, *steps in curriculum]


def stage_at(schedule: Sequence[WindowStage], done: float) -> WindowStage:
    """Return the stage that applies after the fraction `done` of the training."""
    return [stage for stage in schedule if stage.since <= done][-1]


def _is_stage(stage: Sequence[float]) -> bool:
    whole = all(float(number).is_integer() for number in stage[1:])
    return len(stage) in (2, 3) and whole and stage[1] >= 2 and min(stage[1:]) >= 1


def shortened(row: RankRow, n: int, seed: int, position: int) -> RankRow:
    """Return the row with at most n candidates: the teacher's first, the others sampled by seed and position."""
    if n >= len(row.passage_ids):
        return row
    dice = random.Random(f"{seed}:{position}:shortened")
    return row.shown(sorted([row.order[0], *dice.sample(row.order[1:], n - 1)]))
