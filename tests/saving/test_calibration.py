"""calibration.json: written, read, refused; found next to a saved model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perank.errors import BadInput
from perank.saving.calibration import Calibration, read_calibration, write_calibration
from perank.saving.pretrained import Pretrained

ONE = Calibration(
    scores=(-1.0, 0.0, 2.0), probabilities=(0.1, 0.1, 0.9), fitted_on="dev", queries=3, candidates=60, sha256="abc"
)


def test_it_interpolates_and_is_constant_outside() -> None:
    assert ONE([5.0, 1.0, 0.0, -1.0, -7.0]) == pytest.approx((0.9, 0.5, 0.1, 0.1, 0.1))
    assert ONE([]) == ()


def test_it_comes_back_as_written(tmp_path: Path) -> None:
    write_calibration(ONE, tmp_path / "calibration.json")
    assert read_calibration(tmp_path / "calibration.json", "abc") == ONE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "calibration-0"}, "expected a file of format"),
        ({"scores": [2.0, 0.0, 1.0]}, "ascending"),
        ({"scores": []}, "ascending"),
        ({"scores": [0.0, None, 1.0]}, "ascending"),
        ({"scores": [0.0, 1.0]}, "a probability per score"),
        ({"probabilities": [0.1, 0.5, 1.5]}, "a probability per score"),
        ({"queries": "3"}, "expected a int"),
        ({"more": 1}, "unknown keys"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(ONE, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BadInput, match=said):
        read_calibration(path)


def test_a_model_has_the_calibration_of_its_own_weights_only(tmp_path: Path) -> None:
    model = Pretrained(model=None, prompts=None, encoder=None, llm=None, folder=tmp_path)  # type: ignore[arg-type]
    assert model.calibration is None  # as every model saved before
    (tmp_path / "config.json").write_text('{"sha256": "abc"}')
    write_calibration(ONE, tmp_path / "calibration.json")
    assert model.calibration == ONE
    write_calibration(replace(ONE, sha256="other"), tmp_path / "calibration.json")
    with pytest.raises(BadInput, match="another model's scores"):
        _ = model.calibration
