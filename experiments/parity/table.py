"""Lines of the parity table: what was compared, both values, their difference, and how much of it is allowed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from perank.files import atomic_write

LOSSES, RELATIVE, EXACT = 1e-4, 1e-3, 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; `tolerance` is absolute up to 1 and relative above, or relative throughout."""

    case: str
    preset: str
    quantity: str
    authors: float
    ours: float
    difference: float
    tolerance: float
    relative: bool = False

    @property
    def holds(self) -> bool:
        scale = abs(self.authors) if self.relative else max(1.0, abs(self.authors))
        return self.difference <= self.tolerance * scale


def value(case: str, preset: str, quantity: str, authors: float, ours: float, tolerance: float = LOSSES) -> Line:
    return Line(case, preset, quantity, authors, ours, abs(authors - ours), tolerance)


def norm(case: str, preset: str, quantity: str, authors: float, ours: float) -> Line:
    return Line(case, preset, quantity, authors, ours, abs(authors - ours), RELATIVE, relative=True)


def array(case: str, quantity: str, authors: object, ours: Tensor, tolerance: float = LOSSES) -> Line:
    """The entry that differs most."""
    theirs = torch.as_tensor(authors, dtype=torch.float64)
    assert theirs.shape == ours.shape, (quantity, theirs.shape, ours.shape)
    at = (theirs - ours.double()).abs().argmax()
    worst = (float(theirs.flatten()[at]), float(ours.flatten()[at]))
    return Line(case, "", quantity, *worst, abs(worst[0] - worst[1]), tolerance)


def same(case: str, quantity: str, authors: Sequence[int], ours: Sequence[int]) -> Line:
    """Sequences: their length, how many positions agree, how many don't."""
    agree = sum(a == b for a, b in zip(authors, ours, strict=False))
    wrong = max(len(authors), len(ours)) - agree
    return Line(case, "", quantity, len(authors), agree, wrong, EXACT)


def write(path: Path, lines: Sequence[Line]) -> None:
    with atomic_write(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["case", "preset", "quantity", "authors", "ours", "difference", "tolerance", "holds"])
        for line in lines:
            tolerance = f"{line.tolerance:g}{' relative' if line.relative else ''}"
            numbers = (f"{line.authors:.8g}", f"{line.ours:.8g}", f"{line.difference:.2g}")
            table.writerow([line.case, line.preset, line.quantity, *numbers, tolerance, "yes" if line.holds else "NO"])
