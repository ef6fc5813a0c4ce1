"""How reading is learned: the share of the targets' variance that the LLM explains, by rows seen.

    python experiments/box/learning.py <reader run> [<the run started from it> ...]

Writes learning.csv and learning.png beside this file, as means over steps: a step's texts are of one length, and long
ones are harder.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
STEPS = 8  # logged steps a point


def main() -> None:
    """Read the runs' logs, average, draw."""
    lines: list[tuple[float, float]] = []
    for run in map(Path, sys.argv[1:]):
        before = lines[-1][0] if lines else 0.0
        with (run / "metrics.csv").open() as file:
            lines += [(before + float(line["rows"]), float(line["train/explained"])) for line in csv.DictReader(file)]
    table = pd.DataFrame(lines, columns=["rows", "explained"])
    points = table.groupby(table.index // STEPS).mean().round({"rows": 0, "explained": 4})
    points.to_csv(HERE / "learning.csv", index=False)
    draw(points)


def draw(points: pd.DataFrame) -> None:
    """learning.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(points["rows"], points["explained"], marker="o", color="#4477aa")
    axes.set(xlabel="texts read", ylabel="share of the targets' variance explained", ylim=(0, 1))
    axes.set_title("Training texts, each seen up to three times")
    fig.savefig(HERE / "learning.png", dpi=150)


if __name__ == "__main__":
    main()
