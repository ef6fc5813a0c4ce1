"""Evaluate rankers, saved models and TREC run files on test collections, and print one table.

Examples:
    python -m perank.evaluate suite=nfcorpus model=box                       # the model in the package
    python -m perank.evaluate suite=nfcorpus model=outputs/rank/<date>/<time>/model
    python -m perank.evaluate suite=dl19 run='<folder>/*.txt'                # TREC run files
    python -m perank.evaluate suite=dl19 'ranker=[mono,rankmistral]'         # other systems, see conf/ranker
    python -m perank.evaluate suite=beir suite.beir.collection.folder=<folder> model=box    # your own BEIR folder

The first stage and the encoder alone are evaluated too, with paired t-tests against both and against the systems in
`compare`. Writes metrics.json, per-query scores, TREC runs, results.csv, absent.json and report.html to the
output folder. A PE-Rank model's scores become probabilities of relevance with calibrate=true on a development suite.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from perank.app.jobs import run
from perank.app.saved_model import SavedModel
from perank.app.settings import as_dict
from perank.app.systems import check_comparison, systems_of
from perank.baselines.model_loading import device_of
from perank.errors import exits_cleanly
from perank.evaluation import device_name
from perank.evaluation.exports import export
from perank.files import read_json
from perank.reporting import ResultRow, check_names, compared, render_table, save_report
from perank.reporting.calibration import fit_calibration, report_calibration

log = logging.getLogger(__name__)

_MODELS = ("PE-Rank", "PE-Rank+")  # the names of a saved model among the systems


def evaluate(config: DictConfig) -> list[ResultRow]:
    """Evaluate the first stage, the encoder, run files, rankers and the model on every suite.

    Every evaluation is written as soon as it is complete, and again with its p-values at the end.
    """
    check_comparison(config)
    saved, output = SavedModel(config, device=device_of(config.device)), Path(config.paths.output)
    saved.check_calibration()
    settings = saved.make("report") if config.report else None
    systems = systems_of(saved)
    for suite in saved.suites:
        suite.check()
    baselines = {suite.name: saved.suites.baselines(suite, encoder=config.encoder_alone) for suite in saved.suites}
    known = [evaluation.system for evaluations in baselines.values() for evaluation in evaluations]
    check_names([system.name for system in systems], config.compare, saved.suites, known)
    comparison = compared(systems, saved.suites, baselines, lambda each: each.save(output, baselines[each.suite]))
    alone = [system.name for system in systems if system.name == saved.suites.anchors_alone]
    compare = dict.fromkeys([*config.compare, *alone])
    labels = {"device": device_name(saved.device), **config.labels}
    rows = comparison.save(output, compare, labels)
    if config.calibrate:
        fitted = [(suite, one) for suite, one in comparison.pairs(saved.suites) if one.system in _MODELS]
        path = saved.save_calibration(lambda sha256: fit_calibration(fitted, sha256))
        log.info("calibration written to %s", path)
    for line in report_calibration(comparison.pairs(saved.suites), output):
        log.info(line)
    pairs = [(suite, comparison.of(suite)) for suite in saved.suites]
    if config.ir_metadata is not None:
        for suite, evaluations in pairs:
            export(output, suite, evaluations, as_dict(config.ir_metadata))
    save_report(output, pairs, settings, OmegaConf.to_yaml(config), f"Evaluation of {config.model or 'systems'}")
    return rows


@exits_cleanly
def main() -> None:
    """The command line."""
    run("evaluate", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 150  # rich takes a pipe for 80 columns
    console, output = Console(width=width), Path(config.paths.output)
    rows = evaluate(config)
    absent = read_json(output / "absent.json")
    for collection in dict.fromkeys(row.collection for row in rows):
        chosen = [row for row in rows if row.collection == collection]
        title = f"{collection}, {chosen[0].n_queries} queries"
        console.print(render_table(chosen, metrics=(chosen[0].metric,), title=title, absent=absent))
    for key, entry in read_json(output / "metrics.json").items():
        if entry["note"]:
            console.print(f"{key}: {entry['note']}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
