"""Figure 4 from Table 3's measurements: seconds of encoding, prefill and decoding for the largest number of candidates.

python experiments/figure4_latency/draw.py [<folder with results.csv and paper.csv>]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from perank.errors import exits_cleanly
from perank.reporting.figures import phase_bars
from perank.reporting.rows import ResultRow, read_results_csv, write_results_csv

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Write results.csv, phases.png and paper.csv beside this file."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "table3_efficiency"
    rows = drawn(read_results_csv(folder / "results.csv"))
    write_results_csv(HERE / "results.csv", rows)
    published = HERE.parent / "table3_efficiency" / "paper.csv"
    write_results_csv(HERE / "paper.csv", drawn(read_results_csv(published)))
    phase_bars(rows, str(HERE / "phases.png"), f"Reranking {rows[0].candidates} candidates, {rows[0].device}")
    for row in rows:
        print(f"{row.collection:14} {row.system}, {row.variant}: {row.metric} {row.value:.3f}")


def drawn(rows: list[ResultRow]) -> list[ResultRow]:
    """The seconds at the largest number of candidates, as this study's."""
    deepest = max(row.candidates or 0 for row in rows)
    chosen = [row for row in rows if row.candidates == deepest and row.metric.startswith("seconds_")]
    return [replace(row, study="figure4_latency") for row in chosen]


if __name__ == "__main__":
    exits_cleanly(main)()
