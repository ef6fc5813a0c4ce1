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

from perank.app.jobs import run
from perank.app.saved_model import SavedModel
from perank.app.settings import as_dict, check_arguments, check_type
from perank.app.systems import systems_of
from perank.errors import check_least, exits_cleanly
from perank.files import read_json
from perank.model.precision import dtype_of
from perank.reporting.comparison import compared
from perank.reporting.rows import ResultRow

_KINDS: dict[str, Any] = {
    **{"model": str | None, "dtype": str, "encoder_alone": bool, "batch_size": int},
    **{"run": str | list[str] | None, "download": bool, "compare": list[str]},
}
_MEASURED = ("system", "metric", "value", "n_queries", "baseline", "p_value")  # columns that no label may give


def evaluate(config: DictConfig) -> list[ResultRow]:
    """Every system on every suite: the first stage, the encoder, run files, rankers, the model."""
    _check(config)
    saved = SavedModel(config)
    systems = systems_of(saved)
    baselines = {suite.name: saved.suites.baselines(suite, encoder=config.encoder_alone) for suite in saved.suites}
    comparison = compared(systems, saved.suites, baselines)
    return comparison.save(Path(config.paths.output), config.compare, as_dict(config.labels))


def _check(config: DictConfig) -> None:
    for key, kind in _KINDS.items():
        check_type(config[key], kind, key)
    check_least("", 1, batch_size=config.batch_size)
    dtype_of(config.dtype)
    check_arguments(ResultRow, as_dict(config.labels), "labels", _MEASURED)


@exits_cleanly
def main() -> None:
    """The command line."""
    run("evaluate", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    from perank.reporting.tables import render_table

    console = Console()
    rows = evaluate(config)
    absent = read_json(Path(config.paths.output) / "absent.json")
    for collection in dict.fromkeys(row.collection for row in rows):
        chosen = [row for row in rows if row.collection == collection]
        title = f"{collection}, {chosen[0].n_queries} queries"
        console.print(render_table(chosen, title=title, absent=absent))


if __name__ == "__main__":
    main()
