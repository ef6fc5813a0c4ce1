"""Calibration: a model's scores to probabilities of relevance, in calibration.json next to the model's config.json.

A never decreasing, piecewise linear function through points that isotonic regression fitted on judged candidates
(Zadrozny & Elkan, 2002); constant beyond the first and the last point. It belongs to the weights it was fitted with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perank.errors import BadInput
from perank.files import read_json, write_json

CALIBRATION = "calibration.json"
_FORMAT = "calibration-1"
_AGAIN = "fit it again: python -m perank.evaluate suite=<dev> model=<folder> calibrate=true"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Points of the function, both ascending; what it was fitted on; the SHA-256 of the model's weights ("": any)."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    fitted_on: str
    queries: int
    candidates: int
    sha256: str = ""

    def __call__(self, scores: Sequence[float]) -> tuple[float, ...]:
        """Probabilities in [0, 1] of scores, in their order."""
        if not len(scores):
            return ()
        return tuple(np.interp(np.asarray(scores, dtype=float), self.scores, self.probabilities).tolist())


def write_calibration(calibration: Calibration, path: str | Path) -> None:
    """Write it as JSON, atomically."""
    write_json(Path(path), {"format": _FORMAT, **asdict(calibration)})


def read_calibration(path: str | Path, sha256: str = "") -> Calibration:
    """Read a file that `write_calibration` wrote. Raises `BadInput` for a damaged file, or one of other weights."""
    path = Path(path)
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.pop("format", None) != _FORMAT or not raw.keys() >= _kinds().keys():
        raise BadInput(f"expected a file of format {_FORMAT!r}", remedy=_AGAIN, path=path)
    for name, kind in _kinds().items():
        if not isinstance(raw[name], kind):
            raise BadInput(f"expected a {kind.__name__}, found {raw[name]!r}", remedy=_AGAIN, path=path, id=name)
    if unknown := sorted(raw.keys() - _kinds().keys()):
        raise BadInput(f"unknown keys: {unknown}", remedy=_AGAIN, path=path)
    scores, probabilities = _ascending(raw["scores"], path), _ascending(raw["probabilities"], path)
    if len(scores) != len(probabilities) or probabilities[0] < 0 or probabilities[-1] > 1:
        raise BadInput("expected a probability per score", remedy=_AGAIN, path=path)
    found = Calibration(**{**raw, "scores": scores, "probabilities": probabilities})
    if sha256 and found.sha256 and sha256 != found.sha256:
        raise BadInput("it was fitted on another model's scores", remedy=f"delete it, or {_AGAIN}", path=path)
    return found


def digest_in(folder: Path) -> str:
    """The digest of the weights that a model's config.json has; "" for a model without a folder or a digest."""
    path = folder / "config.json"
    return str(read_json(path).get("sha256", "")) if folder != Path() and path.is_file() else ""


def calibration_in(folder: Path) -> Calibration | None:
    """A model folder's calibration, if it has one. Raises `BadInput` as `read_calibration` does."""
    path = folder / CALIBRATION
    return read_calibration(path, digest_in(folder)) if folder != Path() and path.is_file() else None


def _kinds() -> dict[str, type]:
    lists = {"scores": list, "probabilities": list}
    return lists | {"fitted_on": str, "queries": int, "candidates": int, "sha256": str}


def _ascending(values: list[Any], path: Path) -> tuple[float, ...]:
    numbers = isinstance(values, list) and all(isinstance(value, int | float) for value in values)
    if not values or not numbers or not np.isfinite(values).all() or (np.diff(values) < 0).any():
        raise BadInput("expected finite numbers in ascending order", remedy=_AGAIN, path=path)
    return tuple(map(float, values))
