"""Every fault in `experiments/robustness/faults.csv` names a test, a case or a table that exists."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments" / "robustness"
with (FOLDER / "faults.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
KINDS = [*map(str, range(1, 19)), "commands"]


def test_every_kind_has_members_and_none_is_listed_twice() -> None:
    assert {row["kind"] for row in ROWS} == set(KINDS)
    assert len({(row["kind"], row["member"]) for row in ROWS}) == len(ROWS)
    assert all(all(row.values()) for row in ROWS)


@pytest.mark.parametrize("named", sorted({row["test"] for row in ROWS}))
def test_the_test_of_a_fault_exists(named: str) -> None:
    place, _, test = named.replace(": ", "::", 1).partition("::")
    assert (ROOT / place).is_file()
    if place.startswith("tests/"):
        function = test.partition("[")[0]
        assert re.search(rf"^ *def {function}\(", (ROOT / place).read_text(encoding="utf-8"), re.MULTILINE)
    elif test:
        sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*_cases.py"))
        assert f'"{test.rpartition(": ")[2]}"' in sources or f"{test} = " in sources
