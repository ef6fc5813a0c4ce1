"""Fit the calibration of an evaluated model, and report how well calibrated evaluated models are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from perank.evaluation.calibration import Judged, Reliability, fitted_points, reliability
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.files import write_json
from perank.reporting.figures import reliability_plot
from perank.saving.calibration import Calibration

Measured = Iterable[tuple[Suite, Evaluation]]


def fit_calibration(measured: Measured, sha256: str) -> Calibration:
    """Fit one function on all suites' candidates. Raises `BadInput` if the model has no scores or nothing is judged."""
    pairs = list(measured)
    judged = [_judged(suite, evaluation, raw=True) for suite, evaluation in pairs]
    scores, probabilities = fitted_points(judged)
    return Calibration(
        scores=scores,
        probabilities=probabilities,
        fitted_on=", ".join(f"{suite.name}, {suite.query_ids[0]} to {suite.query_ids[-1]}" for suite, _ in pairs),
        queries=sum(one.queries for one in judged),
        candidates=sum(len(one.relevant_P) for one in judged),
        sha256=sha256,
    )


def report_calibration(measured: Measured, output: Path) -> list[str]:
    """Write calibration_error.json and, for each suite and system with scores, a reliability plot; return a line each.

    A calibrated model has two entries: with its probabilities, and with what its scores are otherwise, 1 / rank.
    """
    found: dict[str, Reliability] = {}
    for suite, evaluation in measured:
        if not scored(evaluation):
            continue
        name = f"{suite.name}/{evaluation.system}"
        shown: list[tuple[str, Reliability]] = [("uncalibrated: 1 / rank", reliability(_ranks(suite, evaluation)))]
        if all(one.calibrated for one in evaluation.shown.values()):
            shown.append(("calibrated", reliability(_judged(suite, evaluation))))
        found |= {f"{name}, {label}": one for label, one in shown}
        reliability_plot(shown, output / f"{name.replace('/', '.')}.reliability.png", name)
    if found:
        write_json(output / "calibration_error.json", {name: asdict(one) for name, one in found.items()})
    return _lines(found)


def scored(evaluation: Evaluation) -> bool:
    """Whether the system has scores that a calibration can be fitted on."""
    return any(one.raw for one in evaluation.shown.values())


def _lines(found: dict[str, Reliability]) -> list[str]:
    return [
        f"{name}: expected calibration error {one.error:.4f} ({one.queries} queries)" for name, one in found.items()
    ]


def _judged(suite: Suite, evaluation: Evaluation, *, raw: bool = False) -> Judged:
    scores = {id: scored.raw if raw else scored.scores for id, scored in evaluation.shown.items()}
    return Judged.of(scores, suite.collection.qrels, suite.binary_cutoff)


def _ranks(suite: Suite, evaluation: Evaluation) -> Judged:
    ranks = {
        id: {passage: 1 / rank for rank, passage in enumerate(scored.scores, start=1)}
        for id, scored in evaluation.shown.items()
    }
    return Judged.of(ranks, suite.collection.qrels, suite.binary_cutoff)
