"""Evaluate rankers, saved models and TREC run files on test collections, and print one table.

Examples:
    python -m perank.evaluate suite=nfcorpus model=box                       # the model inside the package
    python -m perank.evaluate suite=nfcorpus model=outputs/rank/<date>/<time>/model
    python -m perank.evaluate suite=dl19 run='<folder>/*.txt'                # TREC run files
    python -m perank.evaluate suite=dl19 'ranker=[monobert,monot5]'          # other systems, see conf/ranker
    python -m perank.evaluate suite=beir suite.beir.collection.folder=<folder> model=box    # your own BEIR folder

Next to them stand the first stage and the encoder alone, with paired t-tests against both (and against the systems that
`compare` names). Writes metrics.json, per-query scores, TREC runs, results.csv and absent.json into the output folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from perank.app.assembly import Assembly
from perank.app.jobs import run
from perank.app.settings import as_dict, check_arguments, check_type
from perank.app.systems import measured, named, systems_of
from perank.errors import BadInput, exits_cleanly
from perank.evaluation.evaluator import evaluate_run
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.files import read_json, write_json
from perank.model.precision import dtype_of
from perank.reporting.rows import ResultRow, rows_from, write_results_csv

ABSENT = "absent.json"  # system -> why it isn't in the table
_MEASURED = ("system", "metric", "value", "n_queries", "baseline", "p_value")  # columns that no label may give


def evaluate(config: DictConfig) -> list[ResultRow]:
    """Every system on every suite: the first stage, the encoder, run files, rankers, the model."""
    _check(config)
    assembly = Assembly(config)
    output = Path(config.paths.output)
    systems = systems_of(assembly)
    if assembly.pretrained is not None:
        assembly.encoder = assembly.pretrained.encoder  # the vectors it was trained on, whatever the config says
    baselines = {suite.name: _baselines(assembly, suite) for suite in assembly.suites}
    found, absent = measured(systems, assembly.suites)
    rows: list[ResultRow] = []
    for suite in assembly.suites:
        everything = [*baselines[suite.name], *found[suite.name]]
        against = [*baselines[suite.name], *named(everything, config.compare, absent)]
        for evaluation in everything:
            evaluation.save(output, against=against)
            rows += rows_from(evaluation, against=against, **as_dict(config.labels))
    write_json(output / ABSENT, absent)
    write_results_csv(output / "results.csv", rows)
    return rows


def _check(config: DictConfig) -> None:
    kinds: dict[str, Any] = {"model": str | None, "dtype": str, "encoder_alone": bool, "batch_size": int}
    kinds |= {"run": str | list[str] | None, "download": bool, "compare": list[str]}
    for key, kind in kinds.items():
        check_type(config[key], kind, key)
    dtype_of(config.dtype)
    if config.batch_size < 1:
        raise BadInput(f"batches of {config.batch_size} queries", remedy="use 1 or more", id="batch_size")
    check_arguments(ResultRow, as_dict(config.labels), "labels", _MEASURED)


def _baselines(assembly: Assembly, suite: Suite) -> list[Evaluation]:
    if assembly.config.encoder_alone:
        return list(assembly.baselines(suite))
    return [evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)]


@exits_cleanly
def main() -> None:
    """The command line."""
    run("evaluate", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    from perank.reporting.tables import render_table

    console = Console()
    rows = evaluate(config)
    absent = read_json(Path(config.paths.output) / ABSENT)
    for collection in dict.fromkeys(row.collection for row in rows):
        chosen = [row for row in rows if row.collection == collection]
        title = f"{collection}, {chosen[0].n_queries} queries"
        console.print(render_table(chosen, title=title, absent=absent))


if __name__ == "__main__":
    main()
