"""The callback that measures a model under training: each query once on any number of devices, training undisturbed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from perank.errors import BadInput
from perank.evaluation import callback
from perank.evaluation.callback import RankingEvaluation
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.suites import Suite
from perank.records import Candidates, Ranking
from support.small_suite import Reversing, small_suite


class Log:
    def __init__(self) -> None:
        self.metrics: list[tuple[dict[str, float], int]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics.append((metrics, step))


def trainer(*, rank: int = 0, world: int = 1, step: int = 0, last: bool = False) -> Any:
    progress = SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=last))
    return SimpleNamespace(
        global_rank=rank,
        world_size=world,
        is_global_zero=rank == 0,
        global_step=step,
        fit_loop=SimpleNamespace(epoch_loop=progress),
        lightning_module=SimpleNamespace(model=torch.nn.Module()),
        loggers=[Log()],
        received_sigterm=False,
    )


class Recording(Reversing):
    """Remembers which queries it ranked."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        self.queries += [candidates.query.id for candidates in batch]
        return super().rank_batch(batch)


def measuring(folder: Path, suites: Sequence[Suite], ranker: Any, **options: Any) -> RankingEvaluation:
    def baselines(suite: Suite) -> list[Any]:
        return [evaluate_run(suite.first_stage_run, suite, system="first stage")]

    return RankingEvaluation(suites, lambda suite: ranker, baselines, folder, **options)


def test_at_the_end_it_measures_logs_and_writes_what_one_process_would(tmp_path: Path) -> None:
    suite, ranker, run = small_suite(), Recording(), trainer(step=12)
    evaluation = measuring(tmp_path, [suite], ranker)
    evaluation.on_train_end(run, None)
    expected = evaluate_ranker(Reversing(), suite, progress=False)
    assert evaluation.results[0].per_query == expected.per_query
    assert ranker.queries == ["q1", "q2", "q3"]  # the first stage has nothing for q4, which scores 0
    entry = json.loads((tmp_path / "metrics.json").read_text())["small/PE-Rank"]
    assert entry["means"] == expected.means
    assert entry["p_values"].keys() == {"first stage"}
    assert (tmp_path / "small.PE-Rank.trec").is_file()
    assert (tmp_path / "small.first_stage.per_query.tsv").is_file()  # what tables compare it with
    (logged, step), *more = run.loggers[0].metrics
    assert (step, more) == (12, [])
    assert {k: v for k, v in logged.items() if k != "small/seconds_per_query"} == {
        **{f"small/{k}": v for k, v in expected.means.items()},
        "small/forwards_per_query": 3.0,
    }
    assert logged["small/seconds_per_query"] >= 0


@pytest.mark.parametrize("world", [2, 3, 5])
def test_devices_rank_each_query_once_and_all_of_them_know_the_whole_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    """Devices one after the other: each leaves its share on the table, and a second round reads what lies there."""
    table: list[Any] = [None] * world
    suite = small_suite()
    expected = evaluate_ranker(Reversing(), suite, progress=False)
    rankers = [Recording() for _ in range(world)]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world)
    for last_round in (False, True):
        for rank in range(world):
            rankers[rank].queries.clear()
            monkeypatch.setattr(torch.distributed, "all_gather_object", _on_the_table(table, rank))
            evaluation = measuring(tmp_path / f"{rank}", [suite], rankers[rank])
            if not last_round:
                table[rank] = _share_of(evaluation, trainer(rank=rank, world=world), monkeypatch)
                continue
            evaluation.on_train_end(trainer(rank=rank, world=world), None)
            assert evaluation.results[0].per_query == expected.per_query
            assert evaluation.results[0].bill.forwards == expected.bill.forwards
            assert (tmp_path / f"{rank}" / "metrics.json").is_file() == (rank == 0)
    assert sorted(query for ranker in rankers for query in ranker.queries) == ["q1", "q2", "q3"]


def _on_the_table(table: list[Any], rank: int) -> Any:
    def gather(into: list[Any], mine: Any) -> None:
        table[rank] = mine
        into[:] = table

    return gather


def _share_of(evaluation: RankingEvaluation, run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a device would hand to the others."""
    shares: list[Any] = []

    class Handed(Exception):
        pass

    def hand_over(share: Any) -> Any:
        shares.append(share)
        raise Handed

    with monkeypatch.context() as patch, pytest.raises(Handed):
        patch.setattr(callback, "_gathered", hand_over)
        evaluation.on_train_end(run, None)
    return shares[0]


def test_between_steps_it_measures_when_due_once_a_step_and_not_at_the_last(tmp_path: Path) -> None:
    ranker = Recording()
    evaluation = measuring(tmp_path, [small_suite()], ranker, every_n_steps=5)
    steps = [0, 1, 4, 5, 5, 6, 10, 10, 11, 15]  # a step stands twice where gradients of two batches are accumulated
    measured = []
    for step in steps:
        before = len(ranker.queries)
        evaluation.on_train_batch_end(trainer(step=step, last=step == 15), None, None, None, 0)
        measured += [step] if len(ranker.queries) > before else []
    assert measured == [5, 10]
    assert not (tmp_path / "metrics.json").exists()


def test_without_an_interval_it_measures_at_the_end_alone(tmp_path: Path) -> None:
    ranker = Recording()
    measuring(tmp_path, [small_suite()], ranker).on_train_batch_end(trainer(step=5), None, None, None, 0)
    assert ranker.queries == []


def test_measuring_draws_no_random_numbers_from_training(tmp_path: Path) -> None:
    class Drawing(Reversing):
        def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
            torch.rand(7)
            return super().rank_batch(batch)

    before = torch.get_rng_state()
    measuring(tmp_path, [small_suite()], Drawing()).on_train_end(trainer(), None)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_suite_that_cannot_be_read_is_refused_before_the_first_step(tmp_path: Path) -> None:
    evaluation = measuring(tmp_path, [small_suite(first_stage="none.trec")], Recording())
    with pytest.raises(BadInput, match="no such file"):
        evaluation.on_fit_start(trainer(), None)


def test_a_sigterm_ends_it_after_the_batch_at_hand_and_writes_nothing(tmp_path: Path) -> None:
    suite, run = small_suite(), trainer()

    class Terminated(Recording):
        def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
            run.received_sigterm = True  # what Lightning's handler leaves
            return super().rank_batch(batch)

    ranker = Terminated()
    with pytest.raises(SystemExit) as ended:  # a sweep ends with it: Hydra takes no other job up
        measuring(tmp_path, [suite], ranker, batch_size=1).on_train_end(run, None)
    assert ended.value.code == 143
    assert ranker.queries == ["q1"]
    assert not list(tmp_path.iterdir())


class Failing(Recording):
    """Fails for some queries, alone or in a batch."""

    def __init__(self, *ids: str) -> None:
        super().__init__()
        self.ids = ids

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        if any(candidates.query.id in self.ids for candidates in batch):
            raise RuntimeError("out of memory")
        return super().rank_batch(batch)


def test_a_suite_that_fails_costs_another_one_nothing(tmp_path: Path) -> None:
    good, bad = small_suite(name="good"), small_suite(name="bad")
    rankers = {"good": Recording(), "bad": Failing("q1", "q2", "q3")}
    evaluation = measuring(tmp_path, [bad, good], None)
    evaluation.ranker_for = lambda suite: rankers[suite.name]
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluation.on_train_end(trainer(), None)
    assert "good/PE-Rank" in json.loads((tmp_path / "metrics.json").read_text())


def test_a_batch_that_fails_is_ranked_query_by_query(tmp_path: Path) -> None:
    suite, ranker = small_suite(), Failing("q2")
    evaluation = measuring(tmp_path, [suite], ranker)
    evaluation.on_train_end(trainer(), None)
    assert ranker.queries == ["q1", "q3"]
    found, whole = evaluation.results[0], evaluate_ranker(Reversing(), suite, progress=False)
    assert found.failed == {"q2": "out of memory"}
    assert [found.per_query["mrr"][id] for id in ("q1", "q3")] == [whole.per_query["mrr"][id] for id in ("q1", "q3")]
    assert list(found.run["q2"]) == ["p5", "p4", "p3"]  # the first stage's order
    assert found.bills.keys() == {"q1", "q3"}


def test_a_ranker_that_fails_for_every_query_is_given_up_after_eight() -> None:
    from perank.evaluation.attempts import rank_each
    from perank.records import Candidates, Query

    tried: list[str] = []

    class Broken(Reversing):
        def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
            tried.append(batch[0].query.id)
            raise RuntimeError("out of memory")

    queries = [Candidates(Query(f"q{i}", "words"), ()) for i in range(100)]
    with pytest.raises(RuntimeError, match="out of memory"):
        rank_each(Broken(), queries, batch_size=1, progress=False, patient=True)
    assert len(tried) == 8


def test_baselines_that_fail_are_refused_before_the_first_step(tmp_path: Path) -> None:
    def no_encoder(suite: Suite) -> list[Any]:
        raise BadInput("the encoder is missing", remedy="download it")

    evaluation = RankingEvaluation([small_suite()], lambda suite: Recording(), no_encoder, tmp_path)
    with pytest.raises(BadInput, match="encoder is missing"):
        evaluation.on_fit_start(trainer(), None)
