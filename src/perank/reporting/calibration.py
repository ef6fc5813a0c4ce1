"""Fit the calibration of an evaluated model, and report how well calibrated evaluated models are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from perank.evaluation import Evaluation, Suite
from perank.evaluation.calibration import Judged, Reliability, fitted_points, reliability
from perank.files import write_json
from perank.saving.calibration import Calibration

Measured = Iterable[tuple[Suite, Evaluation]]


def fit_calibration(measured: Measured, sha256: str) -> Calibration:
    """Fit one function on all suites' candidates. Raises `BadInput` if the model has no scores or nothing is judged."""
    pairs = list(measured)
    judged = [_judged(suite, evaluation, "raw") for suite, evaluation in pairs]
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
        if not any(one.raw_scores for one in evaluation.shown.values()):
            continue
        name = f"{suite.name}/{evaluation.system}"
        shown: list[tuple[str, Reliability]] = [
            ("uncalibrated: 1 / rank", reliability(_judged(suite, evaluation, "reciprocal_ranks")))
        ]
        if all(one.calibrated for one in evaluation.shown.values()):
            shown.append(("calibrated", reliability(_judged(suite, evaluation))))
        found |= {f"{name}, {label}": one for label, one in shown}
        reliability_plot(shown, output / f"{name.replace('/', '.')}.reliability.png", name)
    if found:
        write_json(output / "calibration_error.json", {name: asdict(one) for name, one in found.items()})
    return _lines(found)


def _lines(found: dict[str, Reliability]) -> list[str]:
    return [
        f"{name}: expected calibration error {one.error:.4f} ({one.queries} queries)" for name, one in found.items()
    ]


def _judged(suite: Suite, evaluation: Evaluation, which: str = "scores") -> Judged:
    scores = {id: getattr(scored, which) for id, scored in evaluation.shown.items()}
    return Judged.of(scores, suite.collection.qrels, suite.binary_cutoff)


def reliability_plot(shown: Sequence[tuple[str, Reliability]], path: str | Path, title: str) -> None:
    """Draw the share of relevant candidates over their mean probability, a panel per (label, `Reliability`).

    Marks are bins; their area grows with the number of candidates.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(shown), figsize=(4.2 * len(shown), 4.4), squeeze=False, layout="constrained")
    for axes, (label, one) in zip(panels[0], shown, strict=True):
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        sizes = [12 + 300 * count / one.candidates for _, _, count in one.bins]
        axes.scatter([p for p, _, _ in one.bins], [share for _, share, _ in one.bins], s=sizes, color="#4477aa")
        axes.set(title=f"{label}\nECE {one.error:.3f}", xlabel="score", ylabel="share of relevant candidates")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    figure.suptitle(f"{title}, {shown[0][1].queries} queries")
    figure.savefig(path, dpi=130)
    plt.close(figure)
