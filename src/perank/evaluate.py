"""Evaluate rankers, saved models and TREC run files on test collections, and print one table.

Examples:
    python -m perank.evaluate suite=nfcorpus model=box                       # the model in the package
    python -m perank.evaluate suite=nfcorpus model=outputs/rank/<date>/<time>/model
    python -m perank.evaluate suite=dl19 run='<folder>/*.txt'                # TREC run files
    python -m perank.evaluate suite=dl19 'ranker=[monobert,monot5]'          # other systems, see conf/ranker
    python -m perank.evaluate suite=beir suite.beir.collection.folder=<folder> model=box    # your own BEIR folder

The first stage and the encoder alone are evaluated too, with paired t-tests against both and against the systems in
`compare`. Writes metrics.json, per-query scores, TREC runs, results.csv and absent.json to the output folder.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from perank.app.jobs import run
from perank.app.saved_model import SavedModel
from perank.app.systems import check_comparison, systems_of
from perank.baselines.model_loading import device_of
from perank.errors import exits_cleanly
from perank.evaluation.result import device_name
from perank.files import read_json
from perank.reporting.comparison import compared
from perank.reporting.rows import ResultRow


def evaluate(config: DictConfig) -> list[ResultRow]:
    """Evaluate the first stage, the encoder, run files, rankers and the model on every suite."""
    check_comparison(config)
    saved = SavedModel(config, device=device_of(config.device))
    systems = systems_of(saved)
    baselines = {suite.name: saved.suites.baselines(suite, encoder=config.encoder_alone) for suite in saved.suites}
    comparison = compared(systems, saved.suites, baselines)
    alone = [system.name for system in systems if system.name == saved.suites.anchors_alone]
    compare = dict.fromkeys([*config.compare, *alone])
    labels = {"device": device_name(saved.device), **config.labels}
    return comparison.save(Path(config.paths.output), compare, labels)


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
