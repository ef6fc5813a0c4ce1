"""What the doctor reads in a trainer config."""

from __future__ import annotations

from typing import Any

import pytest

from perank.errors import BadInput
from perank.planning.composition import parallelism_of

GPU = {"devices": 1, "precision": "bf16-mixed"}
SHARDED = {"_target_": "perank.training.fsdp.ShardedStrategy", "dtype": "bfloat16"}
ZERO = {"_target_": "lightning.pytorch.strategies.DeepSpeedStrategy", "stage": 2, "reduce_bucket_size": 7}


@pytest.mark.parametrize(
    ("trainer", "dtype", "expected"),
    [
        (GPU, "bfloat16", ("one", 1, 2, False, 1)),
        (GPU, "float32", ("one", 1, 2, True, 1)),
        ({"devices": 1, "precision": None}, "float32", ("one", 1, 4, False, 1)),
        ({"devices": 4, "precision": "bf16-mixed", "strategy": "ddp"}, "float32", ("ddp", 4, 2, True, 1)),
        ({"devices": 4, "precision": "bf16-mixed", "strategy": ZERO, "num_nodes": 2}, "float32",
         ("zero2", 8, 2, False, 8)),
        ({"devices": 4, "precision": None, "strategy": SHARDED}, "float32", ("fsdp", 4, 2, False, 4)),
    ],
)  # fmt: skip
def test_every_trainer_is_understood(trainer: dict[str, Any], dtype: str, expected: tuple[object, ...]) -> None:
    found = parallelism_of(trainer, dtype=dtype)
    assert (found.kind, found.gpus, found.element, found.wide, found.shares) == expected


@pytest.mark.parametrize(
    ("trainer", "place"),
    [
        ({"devices": "auto"}, "trainer.devices"),
        ({"devices": 4, "strategy": "fsdp"}, "trainer.strategy"),
        ({"devices": 4, "strategy": {**ZERO, "stage": 3}}, "trainer.strategy"),
    ],
)
def test_what_it_has_no_arithmetic_for_is_refused(trainer: dict[str, Any], place: str) -> None:
    with pytest.raises(BadInput, match=place):
        parallelism_of(trainer, dtype="float32")
