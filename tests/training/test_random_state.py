"""Random states as checkpoints hold them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from perank.training.checkpoints import random_state, restore_random_state

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def states_put_back() -> Iterator[None]:
    before = random_state(CPU)
    yield
    restore_random_state(before, CPU)


def draws() -> tuple[object, ...]:
    return (
        torch.rand(3).tolist(),
        torch.randperm(9).tolist(),
        np.random.rand(3).tolist(),
        np.random.normal(size=3).tolist(),  # an odd number of normals: numpy keeps the second of the last pair
        [random.random() for _ in range(3)],
        random.gauss(0, 1),  # so does Python
    )


def test_draws_go_on_where_the_state_was_taken_also_after_a_checkpoint_on_disk(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    draws()
    torch.save(random_state(CPU), tmp_path / "state.ckpt")
    expected = [draws() for _ in range(400)]  # over the end of the Mersenne twisters' blocks
    restore_random_state(torch.load(tmp_path / "state.ckpt", weights_only=True), CPU)
    assert [draws() for _ in range(400)] == expected


def test_taking_a_state_draws_nothing() -> None:
    random_state(CPU)
    first = random_state(CPU)
    second = random_state(CPU)
    assert torch.equal(first["torch"], second["torch"])
    assert torch.equal(first["numpy"]["keys"], second["numpy"]["keys"])
    assert first["numpy"]["position"] == second["numpy"]["position"]
    assert torch.equal(first["python"]["words"], second["python"]["words"])
