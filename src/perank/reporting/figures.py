"""Draw results as PNG files: the cells of a table as marks, and the seconds of rankings as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perank.reporting import ResultRow
from perank.reporting.grid import Grid


def draw(grid: Grid, path: str | Path) -> None:
    """Draw a panel per column and a mark per line, bars for the spread over seeds, hollow marks for the paper."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [" ".join(filter(None, [*line.shown, f"({line.block})" if line.block else ""])) for line in grid.lines]
    height = 0.32 * len(names) + 1.1
    figure, panels = plt.subplots(
        1,
        len(grid.columns),
        figsize=(2.6 * len(grid.columns) + 2, height),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, key in zip(panels[0], grid.columns, strict=True):
        for place, line in enumerate(grid.lines):
            if key in line.cells:
                cell = line.cells[key]
                axes.errorbar(cell.value, place, xerr=cell.spread or None, fmt="o", color="#4477aa", capsize=3)
            if key in line.paper:
                axes.plot(line.paper[key], place, "o", markerfacecolor="none", color="#aa3377")
        axes.set(title=key[0], xlabel=key[1])
        axes.grid(axis="x", linewidth=0.4)
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    figure.suptitle("filled: measured here; hollow: the paper")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def phase_bars(rows: Sequence[ResultRow], path: str, title: str) -> None:
    """Draw a panel per collection, with a bar per system and variant that stacks the seconds of each phase."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    collections = list(dict.fromkeys(row.collection for row in rows))
    names = list(dict.fromkeys((row.system, row.variant) for row in rows))
    fig, panels = plt.subplots(
        1,
        len(collections),
        figsize=(5.5 * len(collections), 0.45 * len(names) + 1.5),
        sharey=True,
        layout="constrained",
    )
    phases = {"seconds_encode": "#ccbb44", "seconds_prefill": "#4477aa", "seconds_decode": "#ee6677"}
    for axes, collection in zip([panels] if len(collections) == 1 else panels, collections, strict=True):
        values = {(r.system, r.variant, r.metric): r.value for r in rows if r.collection == collection}
        left = [0.0] * len(names)
        for phase, color in phases.items():
            widths = [values.get((*name, phase), 0.0) for name in names]
            axes.barh([": ".join(name) for name in names], widths, left=left, color=color, label=phase[8:])
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set(title=collection, xlabel="seconds per query")
        for place, total in enumerate(left):
            axes.annotate(f" {total:.2f}", (total, place), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    fig.suptitle(title)
    fig.savefig(path, dpi=150)
    plt.close(fig)
