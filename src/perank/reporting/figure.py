"""A table as a figure: a panel a column, a mark a line, seeds' spread as bars, the paper's figures as hollow marks."""

from __future__ import annotations

from pathlib import Path

from perank.reporting.grid import Grid


def draw(grid: Grid, path: str | Path) -> None:
    """Write a PNG."""
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
