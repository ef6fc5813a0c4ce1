"""What a config's inputs do before they take hours."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.app import inputs
from perank.app.assembly import Assembly
from perank.errors import BadInput
from support import toy


def test_training_does_not_encode_a_large_corpus_on_a_cpu_and_names_the_command_that_does(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_MOST_ON_CPU", 39, raising=False)
    config = toy.composed(world, tmp_path)
    with pytest.raises(BadInput, match=r"40 passages .* on the CPU.*perank\.encode .*trainer=gpu"):
        _ = Assembly(config).store
    monkeypatch.setattr(inputs, "_MOST_ON_CPU", 40)
    Assembly(config).store.verify()
    monkeypatch.setattr(inputs, "_MOST_ON_CPU", 39)
    assert len(Assembly(config).store) == 40
