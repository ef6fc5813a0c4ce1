"""The W&B board: offline unless someone is logged in, finished whatever happens, and what its tables hold."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perank.app import wandb_tables as board
from perank.app.training_run import TrainingRun
from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.train import main, train
from support import toy
from support.small_suite import PASSAGES, Reversing, small_suite

pytestmark = toy.QUIET


@pytest.mark.parametrize(("login", "mode"), [(True, "online"), (False, "offline")])
def test_a_login_decides_where_nobody_has(monkeypatch: pytest.MonkeyPatch, login: bool, mode: str) -> None:
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", lambda prompt: login)
    assert board.wandb_mode() == mode


def test_wandb_mode_decides_and_a_misspelt_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert board.wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(BadInput, match="ofline"):
        board.wandb_mode()


def fails(self: TrainingRun) -> None:
    raise BadInput("the data is broken", remedy="mend it")


def test_a_run_is_finished_also_when_training_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    config = toy.composed(tmp_path / "world", tmp_path / "run", "rank", "logger=wandb")
    monkeypatch.setattr(board, "finish", lambda *, failed: ended.append(failed))
    with monkeypatch.context() as patch, pytest.raises(BadInput, match="broken"):
        patch.setattr(TrainingRun, "fit", fails)
        train(config)
    with TrainingRun(config):
        pass
    assert ended == [True, False]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tags": ["rank", "x" * 65]}, "Tags must be between 1 and 64 characters"),
        ({"tags": ["", "rank"]}, "Tag at index 0 is empty"),
        ({"project": "a/b"}, "cannot contain characters"),
        ({"project": "x" * 129}, "exceeded 128 characters"),
        ({"id": "a:b"}, "Run ID cannot contain"),
        ({"id": " "}, "whitespace"),
        ({"name": "x" * 129}, "129 characters, W&B takes 128"),
        ({"group": "multirun/" + "x" * 128}, "W&B takes 128"),
    ],
    ids=str,
)
def test_what_wandb_refuses_is_refused_by_its_setting(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        board.check_logger({"project": "perank", **settings})
    assert caught.value.id == f"logger.wandb.{next(iter(settings))}"


def test_a_label_too_long_for_a_tag_ends_before_training(
    tmp_path: Path, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["logger=wandb", f"+labels.study={'s' * 65}", f"hydra.run.dir={tmp_path}/run"]
    assert toy.command(main, *toy.overrides(world), *arguments) == 2
    assert "logger.wandb.tags" in capfd.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_the_settings_that_conf_gives_are_accepted() -> None:
    board.check_logger({"tags": ["rank", "embedded", "minilm"], "project": "perank", "name": "rank", "group": None})


class Shown:
    """A W&B run that keeps what it is shown."""

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}

    def log(self, content: dict[str, Any]) -> None:
        self.logged |= content


def test_tables_hold_every_system_and_the_top_of_rankings_with_grades(monkeypatch: pytest.MonkeyPatch) -> None:
    suite, run = small_suite(), Shown()
    first = evaluate_run(suite.first_stage_run, suite, system="bm25")
    model = evaluate_ranker(Reversing(), suite, system="PE-Rank", progress=False)
    monkeypatch.setattr(board, "_runs", lambda trainer: iter([run]))
    board.show(SimpleNamespace(), "rank", [suite], [[first, model]])
    results, examples = run.logged["results"], run.logged["example rankings"]
    assert [row[:3] for row in results.data] == [["rank", "small", "bm25"], ["rank", "small", "PE-Rank"]]
    assert [row[4] for row in results.data] == [None, 3.0]
    # q1's candidates p1 p2 p3 p4 are turned around; p4 has grade 2, p1 grade 1
    text = [PASSAGES[id].contents for id in ("p4", "p3", "p2", "p1")]
    first_query = [row for row in examples.data if row[1] == "words of q1"]
    assert first_query == [
        ["small", "words of q1", 1, 4, 2, text[0]],
        ["small", "words of q1", 2, 3, None, text[1]],
        ["small", "words of q1", 3, 2, None, text[2]],
        ["small", "words of q1", 4, 1, 1, text[3]],
    ]
    assert run.summary["final/rank/small/ndcg@10"] == model.means["ndcg@10"]
    assert run.summary["final/rank/small/forwards_per_query"] == 3.0


@pytest.mark.slow
def test_a_sweep_leaves_an_offline_run_for_every_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    world = toy.make_world(tmp_path / "world")
    sweep = ["-m", "seed=0,1", "logger=wandb", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert toy.command(main, *sweep, *toy.overrides(world)) == 0
    runs = sorted((tmp_path / "sweep").glob("*/wandb/offline-run-*/run-*.wandb"))
    assert [path.relative_to(tmp_path / "sweep").parts[0] for path in runs] == ["0", "1"]
    assert len(list((tmp_path / "sweep").glob("0/wandb/offline-run-*/files/media/table/*.json"))) == 2
