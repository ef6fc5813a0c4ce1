"""Calibrations fitted and reported from evaluations whose rankings have scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker
from perank.records import Candidates, Ranking
from perank.reporting.calibration import fit_calibration, report_calibration
from perank.saving.calibration import Calibration
from support.small_suite import QRELS, Keeping, Reversing, small_suite


@dataclass
class Knowing:
    """Ranks by the judgements and gives grades as its scores."""

    calibration: Calibration | None = None

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        return [self.ranked(candidates) for candidates in batch]

    def ranked(self, candidates: Candidates) -> Ranking:
        grades = [float(QRELS[candidates.query.id].get(passage.id, 0)) for passage in candidates.passages]
        order = sorted(range(len(grades)), key=lambda i: -grades[i])
        ranking = Ranking(candidates, tuple(order), raw=tuple(grades[i] for i in order))
        return replace(ranking, probabilities=self.calibration(ranking.raw)) if self.calibration else ranking


def test_a_fit_on_all_candidates_is_reported_next_to_ranks_alone(tmp_path: Path) -> None:
    suite = small_suite()
    fit = fit_calibration([(suite, evaluate_ranker(Knowing(), suite, progress=False))], "abc")
    assert (fit.queries, fit.candidates, fit.sha256) == (3, 9, "abc")
    assert fit([2.0, 1.0, 0.0]) == pytest.approx((1.0, 1.0, 0.0))
    evaluation = evaluate_ranker(Knowing(fit), suite, system="knowing", progress=False)
    lines = report_calibration([(suite, evaluation)], tmp_path)
    errors = json.loads((tmp_path / "calibration_error.json").read_text())
    assert errors["small/knowing, calibrated"]["error"] == pytest.approx(0)
    assert errors["small/knowing, uncalibrated: 1 / rank"]["error"] > 0.1
    assert len(lines) == 2 and (tmp_path / "small.knowing.reliability.png").stat().st_size > 5000


def test_systems_without_scores_are_not_reported_and_cannot_be_fitted(tmp_path: Path) -> None:
    suite = small_suite()
    evaluation = evaluate_ranker(Reversing(), suite, progress=False)
    assert report_calibration([(suite, evaluation)], tmp_path) == []
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match="0 of 0 scored candidates"):
        fit_calibration([(suite, evaluate_ranker(Keeping(), suite, progress=False))], "")
