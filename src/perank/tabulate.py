"""Tabulate sweeps, single runs and results.csv files in the paper's layout.

Examples:
    python -m perank.tabulate multirun/table4-embedded
    python -m perank.tabulate multirun/table4-embedded --study experiments/table4_training_strategies
    python -m perank.tabulate outputs/evaluate/<date>/<time> --output <folder>
    python -m perank.tabulate <one results.csv> <another results.csv>

An unfinished sweep gives the table of its finished jobs and lists the others. Writes results.csv (tidy), table.md,
table.tex and results.png to the study's folder or `--output`, and prints the table. A study's folder has layout.yaml
and, if the paper has the table, paper.csv. The reports of several runs are joined in one report.html.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from perank.app.settings import check_arguments
from perank.errors import BadInput, exits_cleanly
from perank.files import atomic_write
from perank.reporting import (
    REPORT,
    Layout,
    Results,
    collect,
    merged,
    read_report,
    read_results_csv,
    write_report,
    write_results_csv,
)
from perank.reporting.figures import draw
from perank.reporting.grid import Grid, make_grid, tidy_rows
from perank.reporting.render import latex, markdown


def tabulate(paths: Sequence[str | Path], study: Path | None = None, output: Path | None = None) -> Grid:
    """Write the tables of the results under `paths`. Raises `BadInput` if there are no results."""
    layout = read_layout(study) if study is not None else Layout()
    found = collect(paths)
    if not found.measured:
        waiting = ", ".join(str(job) for job in [*found.open_jobs][:3])
        raise BadInput(f"none of {len(found.open_jobs)} jobs has results: {waiting}", remedy="wait for the first one")
    paper = read_results_csv(study / "paper.csv") if study is not None and (study / "paper.csv").is_file() else []
    grid, notes = make_grid(layout, found.measured, paper), _notes(found)
    first = Path(paths[0])
    folder = output or study or (first if first.is_dir() else first.parent)
    write_results_csv(folder / "results.csv", tidy_rows(layout, found.measured))
    for name, text in {"table.md": markdown(grid, notes), "table.tex": latex(grid, notes)}.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    draw(grid, folder / "results.png")
    written = "results.csv table.md table.tex results.png" + (" report.html" if _join_reports(paths, folder) else "")
    sys.stdout.write(markdown(grid, notes) + f"\nwritten to {folder}/: {written}\n")
    return grid


def _join_reports(paths: Sequence[str | Path], folder: Path) -> bool:
    """Join the report.html of several runs in one page in `folder`; return whether there are several."""
    found = [page.resolve() for path in map(Path, paths) if path.is_dir() for page in sorted(path.rglob(REPORT))]
    pages = [page for page in dict.fromkeys(found) if page.parent != folder.resolve()]
    common = Path(os.path.commonpath(pages)) if len(pages) > 1 else None
    if common is None:
        return False
    runs = {page.parent.relative_to(common).as_posix(): read_report(page) for page in pages}
    write_report(folder / REPORT, merged(runs, f"{len(runs)} runs"))
    return True


def read_layout(folder: Path) -> Layout:
    """Read layout.yaml in a study's folder. Raises `BadInput` for a missing file or unknown keys."""
    from omegaconf import OmegaConf

    path = folder / "layout.yaml"
    if not path.is_file():
        raise BadInput("no layout file", remedy="write one, or omit --study", path=path)
    content = OmegaConf.to_container(OmegaConf.load(path))
    settings = {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    check_arguments(Layout, settings, path.name)
    return Layout(**settings)


def _notes(found: Results) -> list[str]:
    if not found.open_jobs:
        return []
    jobs = ", ".join(f"{job.name} ({' '.join(why.split())[:80]})" for job, why in found.open_jobs.items())
    return [f"Half-finished: {len(found.open_jobs)} jobs without results: {jobs}."]


@exits_cleanly
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="sweeps, runs' folders, results.csv files")
    parser.add_argument("--study", type=Path, help="a folder with layout.yaml and optionally paper.csv")
    parser.add_argument("--output", type=Path, help="where to write (default: the study's folder, or the first path)")
    options = parser.parse_args()
    tabulate(options.paths, options.study, options.output)


if __name__ == "__main__":
    main()
