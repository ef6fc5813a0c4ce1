"""A world to train in, and a run that nothing interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.train import train
from support import toy


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 steps without an interruption; checkpoints after 5, 10 and 12."""
    output = tmp_path_factory.mktemp("whole")
    train(toy.composed(world, output))
    return output
