"""Metrics by configuration: whatever a suite measures first is what sweeps, verdicts and tables go by."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from perank.app import wandb_tables
from perank.app.cost_study import CostStudy
from perank.errors import BadInput
from perank.evaluate import main as evaluate
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.train import _measured, train
from support import toy
from support.small_suite import Reversing, small_suite

pytestmark = toy.QUIET
MRR = "+suite.beir.metrics=[mrr@10]"


def test_a_run_is_judged_by_the_metric_that_its_suite_measures(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train(toy.composed(world, tmp_path, "rank", "data.rows=16", MRR))
    assert _measured(tmp_path) == [found["beir"]]  # what a sweeper receives from a job's own process
    assert "(mrr@10, " in capsys.readouterr().out


def test_the_table_shows_the_metric_that_the_suite_measures(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = [o for o in toy.overrides(world) if o.startswith(("suite", "encoder", "window"))]
    assert toy.command(evaluate, *chosen, MRR, f"hydra.run.dir={tmp_path}/run") == 0
    printed = capfd.readouterr().out
    assert "mrr@10" in printed and "ndcg@10" not in printed


def test_verdicts_and_tests_go_by_the_first_metric() -> None:
    suite = small_suite(metrics=["mrr", "ndcg@10"])
    first = evaluate_run(suite.first_stage_run, suite, system="bm25")
    model = evaluate_ranker(Reversing(), suite, system="PE-Rank", progress=False)
    assert "(mrr, " in model.verdict([first])
    assert model.p_value(first) == model.p_value(first, "mrr") != model.p_value(first, "ndcg@10")


def test_the_board_has_a_column_for_each_suites_first_metric() -> None:
    evaluations = [
        evaluate_run(suite.first_stage_run, suite)
        for suite in (small_suite(metrics=["mrr"]), small_suite(metrics=["map", "mrr"]))
    ]
    assert wandb_tables.result_columns(evaluations)[3:5] == ["mrr", "map"]


def test_a_cost_study_of_a_suite_without_its_metric_is_refused_before_anything_is_measured() -> None:
    study = CostStudy.__new__(CostStudy)
    study.config = SimpleNamespace(quality=True)  # type: ignore[assignment]
    study.saved = SimpleNamespace(suites=[small_suite(metrics=["mrr"])])  # type: ignore[assignment]
    with pytest.raises(BadInput, match=r"measured in ndcg@10 .*quality=false"):
        next(study.rows())
