"""Write the results of a cost study: results.csv, table.md and phases.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perank.files import atomic_write
from perank.reporting import ResultRow, latency_table, write_results_csv
from perank.reporting.figures import phase_bars


def cost_table(rows: Sequence[ResultRow]) -> str:
    """Return L_p of every collection, followed by the latency table."""
    lengths = [f"{row.collection} {row.value:.1f}" for row in rows if row.metric == "tokens_per_passage"]
    return f"L_p, tokens per passage: {', '.join(lengths)}\n\n{latency_table(rows)}"


def write_cost_report(rows: Sequence[ResultRow], folder: str | Path, study: str) -> None:
    """Write results.csv, table.md and phases.png; the bars show the most candidates, in the first layout of windows."""
    folder = Path(folder)
    write_results_csv(folder / "results.csv", rows)
    with atomic_write(folder / "table.md") as file:
        file.write(cost_table(rows))
    deepest = max(row.candidates or 0 for row in rows)
    bars = [row for row in rows if row.candidates == deepest and row.metric.startswith("seconds_")]
    window, step = next((row.window, row.step) for row in bars)
    shown = [row for row in bars if (row.window, row.step) == (window, step)]
    title = f"{study}: {deepest} candidates, windows {window}/{step}, {rows[0].device}"
    phase_bars(shown, str(folder / "phases.png"), title)
