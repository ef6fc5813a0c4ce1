"""Measure a saved model or run files: `python -m perank.evaluate suite=dl19 model=outputs/.../model`.

Beside them stand the first stage and the encoder alone, with paired t-tests against both. Writes metrics.json,
per-query scores, TREC runs and results.csv into the output folder, and prints the table.
"""

from __future__ import annotations

import glob
from pathlib import Path

import hydra
from omegaconf import DictConfig

from perank.assemble import Assembly, plain
from perank.errors import BadInput, exits_cleanly
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.report import ResultRow, rows_from, write_results_csv
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.paths import CONF_DIR
from perank.sources.trec import read_run


def evaluate(config: DictConfig) -> list[ResultRow]:
    """Every system on every suite: the first stage, the encoder, the model, the run files."""
    parts = Assembly(config)
    output = Path(config.paths.output)
    rows: list[ResultRow] = []
    for suite in parts.suites:
        baselines, systems = _baselines(parts, suite), _systems(parts, suite)
        for evaluation in [*baselines, *systems]:
            evaluation.save(output, against=baselines)
            rows += rows_from(evaluation, against=baselines, **plain(config.labels))
    write_results_csv(output / "results.csv", rows)
    return rows


def _baselines(parts: Assembly, suite: Suite) -> list[Evaluation]:
    first, *encoder = parts.baselines(suite) if parts.config.encoder_alone else (_first_stage(suite),)
    return [first, *encoder]


def _first_stage(suite: Suite) -> Evaluation:
    return evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)


def _systems(parts: Assembly, suite: Suite) -> list[Evaluation]:
    from perank.model.hub import from_pretrained

    systems = [evaluate_run(read_run(path), suite, system=path.stem) for path in _run_files(parts.config.run)]
    if parts.config.model is not None:
        found = from_pretrained(None if parts.config.model == "box" else parts.config.model)
        parts.encoder = found.encoder  # the vectors this model was trained on
        ranker = parts.reranker(found.model, found.prompts, suite)
        systems.append(evaluate_ranker(ranker, suite, system="PE-Rank", batch_size=parts.config.batch_size))
    return systems


def _run_files(named: object) -> list[Path]:
    """The run files a setting names: null, a path or pattern, or a list of them. Raises `BadInput` for none found."""
    patterns = [] if named is None else [named] if isinstance(named, str) else list(named)  # type: ignore[call-overload]
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(Path(match) for match in glob.glob(str(pattern)))  # noqa: PTH207 - absolute patterns too
        if not found:
            raise BadInput("there is no such run file", remedy="check the path or pattern", path=pattern)
        files += found
    return files


@exits_cleanly
@hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="evaluate")
def main(config: DictConfig) -> None:
    """The command line."""
    from rich.console import Console

    from perank.evaluation.tables import render_table

    console = Console()
    rows = evaluate(config)
    for collection in dict.fromkeys(row.collection for row in rows):
        chosen = [row for row in rows if row.collection == collection]
        console.print(render_table(chosen, title=f"{collection}, {chosen[0].n_queries} queries"))


if __name__ == "__main__":
    main()
