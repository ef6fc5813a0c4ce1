"""Read the results of runs: metrics, per-query scores and settings, or rows of a results.csv.

A finished run's folder has metrics.json, that of an unfinished job only .hydra. Settings that only a model has (prompt,
window, seed, variant) are not attributed to the first stage, the encoder and their fusion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.evaluation import read_per_query
from perank.files import read_json
from perank.reporting.rows import ResultRow, read_results_csv

_VALUES = ("metric", "value", "spread", "n_queries", "baseline", "p_value")
_ENTRY = ("collection", "first_stage", "candidates", "device", "version")
_MODELS = ("variant", "backbone", "prompt", "window", "step", "seed")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One system on one suite: `labels` are the columns of a results table that identify it.

    `values`: metric or cost -> mean. `per_query`: metric -> query id -> score; empty for rows of a CSV file,
    which have p-values instead: (metric, baseline) -> p.
    """

    labels: Mapping[str, Any]
    values: Mapping[str, float]
    n_queries: int | None = None
    per_query: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    p_values: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """Measurements, and `open_jobs`: folders of jobs without results -> the reason if known."""

    measured: list[Measurement]
    open_jobs: dict[Path, str]


def collect(paths: Iterable[str | Path]) -> Results:
    """Read sweeps, runs and CSV files. Raises `BadInput` for a path without any."""
    measured: list[Measurement] = []
    open_jobs: dict[Path, str] = {}
    for path in map(Path, paths):
        if path.is_file():
            measured += _of_csv(path)
            continue
        runs = sorted({file.parent for name in ("metrics.json", ".hydra") for file in path.rglob(name)}, key=_by_number)
        if not runs:
            raise BadInput("no runs in this folder", remedy="name a sweep, a run's folder or a results.csv", path=path)
        for run in runs:
            if (run / "metrics.json").is_file():
                measured += _of_run(run)
            elif (run / ".hydra").is_dir():
                failed = run / "failed.json"
                open_jobs[run] = read_json(failed)["message"] if failed.is_file() else "not finished"
    return Results(measured, open_jobs)


def _of_run(folder: Path) -> Iterator[Measurement]:
    settings = _settings(folder / ".hydra" / "config.yaml")
    entries = read_json(folder / "metrics.json")
    if not isinstance(entries, dict):
        raise BadInput("expected a JSON object of evaluations", remedy="evaluate again", path=folder / "metrics.json")
    for entry in entries.values():
        columns = read_per_query(folder / f"{entry['files']}.per_query.tsv")
        mine = {key: entry[key] for key in _ENTRY if key in entry}
        is_model = entry["costs"].get("forwards_per_query", 0) > 0
        labels = {k: v for k, v in settings.items() if is_model or k not in _MODELS}
        if not is_model and entry["system"] not in ("encoder", "fusion"):
            labels.pop("encoder", None)
        yield Measurement(
            {**labels, **mine, "system": entry["system"]},
            {**entry["means"], **entry["costs"]},
            entry["n_queries"],
            {metric: columns[metric] for metric in entry["means"]},
        )


def _settings(path: Path) -> dict[str, Any]:
    """Return the columns of a results table that a run's config sets."""
    from omegaconf import OmegaConf

    if not path.is_file():
        return {}
    config = OmegaConf.load(path)
    named = {
        "scale": "scale",
        "encoder": "encoder.name",
        "backbone": "backbone.name",
        "prompt": "prompt.version",
        "window": "window.window",
        "step": "window.step",
        "seed": "seed",
    }
    found = {column: OmegaConf.select(config, key) for column, key in named.items()}
    labels = OmegaConf.select(config, "labels") or {}
    found |= {str(key): value for key, value in labels.items()}
    known = asdict(ResultRow(system="", metric="", value=0.0)).keys() - set(_VALUES)
    if unknown := sorted(found.keys() - known):
        problem = f"{unknown[0]!r} in labels is not a column of results"
        raise BadInput(problem, remedy=f"choose among {', '.join(sorted(known))}", path=path)
    return {key: value for key, value in found.items() if value is not None}


def _of_csv(path: Path) -> list[Measurement]:
    grouped: dict[tuple[Any, ...], list[ResultRow]] = {}
    for row in read_results_csv(path):
        blank = replace(row, metric="", value=0.0, spread=None, n_queries=None, baseline="", p_value=None)
        grouped.setdefault(tuple(asdict(blank).items()), []).append(row)
    return [
        Measurement(
            {k: v for k, v in key if k not in _VALUES and v not in ("", None)},
            {row.metric: row.value for row in rows},
            rows[0].n_queries,
            p_values={(row.metric, row.baseline): row.p_value for row in rows if row.p_value is not None},
        )
        for key, rows in grouped.items()
    ]


def _by_number(folder: Path) -> list[tuple[int, str]]:
    """Sort key for Hydra's job numbers, which have no leading zeros: 2 before 10."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in folder.parts]
