"""Measure a saved model or run files: `python -m perank.evaluate suite=dl19 model=outputs/.../model`.

Beside them stand the first stage and the encoder alone, with paired t-tests against both. Writes metrics.json,
per-query scores, TREC runs and results.csv into the output folder, and prints the table.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from perank.assemble import Assembly
from perank.errors import BadInput, exits_cleanly
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.report import ResultRow, rows_from, write_results_csv
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.jobs import run
from perank.model.precision import dtype_of
from perank.records import Run
from perank.settings import check, check_type, plain
from perank.sources.trec import read_run

if TYPE_CHECKING:
    from perank.model.pretrained import Pretrained

_MEASURED = ("system", "metric", "value", "n_queries", "baseline", "p_value")  # columns that no label may give


def evaluate(config: DictConfig) -> list[ResultRow]:
    """Every system on every suite: the first stage, the encoder, the model, the run files."""
    _check(config)
    parts = Assembly(config)
    output = Path(config.paths.output)
    model = _model(config.model, config.dtype)
    if model is not None:
        parts.encoder = model.encoder  # the vectors it was trained on, whatever the config says
    runs = _runs(_run_files(config.run))
    rows: list[ResultRow] = []
    for suite in parts.suites:
        baselines = _baselines(parts, suite)
        systems = [evaluate_run(run, suite, system=name) for name, run in runs.items()]
        if model is not None:
            ranker = parts.reranker(model.model, model.prompts, suite)
            systems.append(evaluate_ranker(ranker, suite, system="PE-Rank", batch_size=config.batch_size))
        for evaluation in [*baselines, *systems]:
            evaluation.save(output, against=baselines)
            rows += rows_from(evaluation, against=baselines, **plain(config.labels))
    write_results_csv(output / "results.csv", rows)
    return rows


def _check(config: DictConfig) -> None:
    kinds = {"model": str | None, "dtype": str, "encoder_alone": bool, "batch_size": int, "run": str | list[str] | None}
    for key, kind in kinds.items():
        check_type(config[key], kind, key)
    dtype_of(config.dtype)
    if config.batch_size < 1:
        raise BadInput(f"batches of {config.batch_size} queries", remedy="use 1 or more", id="batch_size")
    check(ResultRow, plain(config.labels), "labels", _MEASURED)


def _baselines(parts: Assembly, suite: Suite) -> list[Evaluation]:
    if parts.config.encoder_alone:
        return list(parts.baselines(suite))
    return [evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)]


def _model(name: str | None, dtype: str) -> Pretrained | None:
    from perank.model.hub import from_pretrained

    return None if name is None else from_pretrained(None if name == "box" else name, dtype=dtype)


def _runs(files: Sequence[Path]) -> dict[str, Run]:
    """By file name, which names the system. Raises `BadInput` for two of one name."""
    runs: dict[str, Run] = {}
    for path in files:
        if path.stem in runs:
            problem = f"another of the run files is called {path.stem!r} too"
            raise BadInput(problem, remedy="rename one of them", path=path)
        runs[path.stem] = read_run(path)
    return runs


def _run_files(named: str | Sequence[str] | None) -> list[Path]:
    """The run files a setting names: null, a path or pattern, or a list of them. Raises `BadInput` for none found."""
    patterns = [] if named is None else [named] if isinstance(named, str) else list(named)
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(Path(match) for match in glob.glob(str(pattern)))  # noqa: PTH207 - absolute patterns too
        if not found:
            raise BadInput("there is no such run file", remedy="check the path or pattern", path=pattern)
        files += found
    return files


@exits_cleanly
def main() -> None:
    """The command line."""
    run("evaluate", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    from perank.evaluation.tables import render_table

    console = Console()
    rows = evaluate(config)
    for collection in dict.fromkeys(row.collection for row in rows):
        chosen = [row for row in rows if row.collection == collection]
        console.print(render_table(chosen, title=f"{collection}, {chosen[0].n_queries} queries"))


if __name__ == "__main__":
    main()
