"""Tables beside this file, written by the scripts here and by nobody's hand."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from perank.files import atomic_write


def write_table(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write <name>.csv, whole or not at all."""
    with atomic_write(Path(__file__).with_name(f"{name}.csv")) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
