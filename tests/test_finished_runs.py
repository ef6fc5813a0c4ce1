"""A finished run is never lost: the model is saved first, and one query or system costs no other its results."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from perank.errors import BadInput
from perank.evaluate import main as evaluate
from perank.ranking.reranker import Reranker
from perank.records import Candidates, Ranking
from perank.sources.trec import read_run, write_run
from perank.train import main, train
from support import toy

pytestmark = toy.QUIET
ENTRIES: dict[str, Callable[[], None]] = {"perank.train": main, "perank.evaluate": evaluate}


@pytest.fixture
def own_world(tmp_path: Path) -> Path:
    """A world that a test may change."""
    return toy.make_world(tmp_path / "world")


def lengthen(world: Path, *ids: str) -> None:
    """Make test queries too long for any prompt."""
    path = world / "collection" / "queries.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    toy.write_jsonl(path, {row["_id"]: row["text"] + (" otter" * 3000 if row["_id"] in ids else "") for row in rows})


def entry(folder: Path, system: str = "PE-Rank") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())[f"beir/{system}"]
    return found


def crash(*_: Any) -> Any:
    raise RuntimeError("the device ran out of memory")


def end(*_: Any) -> Any:
    raise SystemExit(143)


def no_disk(*_: Any, **__: Any) -> Any:
    raise BadInput("no space left on the disk", remedy="free some space")


@pytest.mark.parametrize(
    ("place", "fault", "code"),
    [
        ("perank.ranking.reranker.Reranker.rank_batch", crash, None),
        ("perank.ranking.reranker.Reranker.rank_batch", end, 143),
        ("perank.evaluation.result.write_run", no_disk, 2),
    ],
    ids=["every query crashes", "terminated", "results can't be written"],
)
def test_the_model_is_there_and_the_printed_command_evaluates_it(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    place: str, fault: Callable[..., Any], code: int | None,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    output, arguments = tmp_path / "a run", [*toy.overrides(world), "data.rows=16", f"hydra.run.dir='{tmp_path}/a run'"]
    with monkeypatch.context() as patch:
        patch.setattr(place, fault)
        if code is None:
            with pytest.raises(RuntimeError, match="out of memory"):
                toy.command(main, *arguments)
        else:
            assert toy.command(main, *arguments) == code
    assert Reranker.from_pretrained(output / "model", dtype="float32").rank("otter", ["otter", "river"]).order
    assert (output / "projector.safetensors").is_file()
    assert not (output / "metrics.json").exists()
    said = capfd.readouterr()
    command = re.findall(r"to evaluate it again: python -m (\S+) (.*)", said.out + said.err)[-1]
    assert toy.command(ENTRIES[command[0]], *shlex.split(command[1])) == 0
    assert 0 <= entry(output)["means"]["ndcg@10"] <= 1


def test_a_query_that_fits_no_prompt_is_counted_and_costs_no_other_its_ranking(
    own_world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lengthen(own_world, "q13")
    train(toy.composed(own_world, tmp_path / "run", "rank", "data.rows=16"))
    assert "1 of 5 queries of beir can't be ranked" in caplog.text
    found, run = entry(tmp_path / "run"), read_run(tmp_path / "run" / "beir.PE-Rank.trec")
    assert "1 queries could not be ranked and keep the first stage's order: q13" in found["note"]
    assert found["failed"].keys() == {"q13"} and "1024 fit" in found["failed"]["q13"]
    first = read_run(tmp_path / "run" / "beir.Bm25.trec")
    assert sorted(run) == [f"q{i}" for i in range(12, 17)]
    assert list(run["q13"]) == list(first["q13"])
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_such_a_query_scores_zero_where_the_setting_says_so(own_world: Path, tmp_path: Path) -> None:
    lengthen(own_world, "q13")
    train(toy.composed(own_world, tmp_path, "rank", "data.rows=16", "on_failure=zero"))
    scores = dict(line.split("\t")[:2] for line in (tmp_path / "beir.PE-Rank.per_query.tsv").read_text().splitlines())
    assert scores["q13"] == "0.0"
    assert "and score 0: q13" in entry(tmp_path)["note"]


@pytest.mark.parametrize("which", [["q13"], [f"q{i}" for i in range(12, 17)]], ids=["stop", "all queries"])
def test_queries_too_long_are_refused_before_training(own_world: Path, tmp_path: Path, which: list[str]) -> None:
    lengthen(own_world, *which)
    stop = ["on_failure=stop"] if len(which) == 1 else []
    with pytest.raises(BadInput, match="1024 fit"):
        train(toy.composed(own_world, tmp_path / "run", "rank", *stop))
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.parametrize("id", ["p 40", "p\u00a040"])
def test_ids_that_no_run_can_hold_are_refused_before_training(own_world: Path, tmp_path: Path, id: str) -> None:
    collection = own_world / "collection"
    text = json.loads((collection / "queries.jsonl").read_text().splitlines()[13])["text"]
    with (collection / "corpus.jsonl").open("a") as file:
        file.write(json.dumps({"_id": id, "text": text}) + "\n")
    with pytest.raises(BadInput, match="can't hold the passage id"):
        train(toy.composed(own_world, tmp_path / "run", "rank"))
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_an_output_folder_with_a_broken_metrics_json_is_refused_before_training(world: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(BadInput, match=r"metrics\.json"):
        train(toy.composed(world, tmp_path, "rank"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_evaluation_between_steps_that_fails_does_not_end_training(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rank_batch, calls = Reranker.rank_batch, 0

    def first_fails(self: Reranker, batch: Sequence[Candidates]) -> list[Ranking]:
        nonlocal calls
        calls += 1
        return crash() if calls <= 6 else rank_batch(self, batch)  # the batch, then its five queries one by one

    monkeypatch.setattr(Reranker, "rank_batch", first_fails)
    train(toy.composed(world, tmp_path, "rank", "data.rows=16", "evaluate_every=2"))
    assert "the evaluation at step 2 failed; training continues" in caplog.text
    assert 0 <= entry(tmp_path)["means"]["ndcg@10"] <= 1


def test_a_system_that_fails_leaves_the_results_of_the_others(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = {f"q{i}": {f"p{i}": 2.0, "p0": 1.0} for i in range(12, 17)}
    write_run(tmp_path / "good.trec", run, tag="x")
    (tmp_path / "bad.trec").write_text("q12 Q0 p1 1 high x\n")
    chosen = [o for o in toy.overrides(world) if o.startswith(("suite", "encoder", "window"))]
    arguments = [*chosen, f"run=[{tmp_path}/good.trec,{tmp_path}/bad.trec]", f"hydra.run.dir={tmp_path}/run"]
    assert toy.command(evaluate, *arguments) == 2
    assert entry(tmp_path / "run", "good")["means"]["mrr@10"] == 1.0
    assert (tmp_path / "run" / "results.csv").is_file()
    assert "high" in json.loads((tmp_path / "run" / "absent.json").read_text())["bad"]


@pytest.mark.parametrize(
    ("argument", "said"), [("compare=[none]", "compare"), ('+labels.variant="a\nb"', "newline")], ids=str
)
def test_comparisons_that_cannot_be_written_are_refused_before_anything_is_ranked(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    argument: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("perank.app.systems.evaluate_ranker", crash)
    chosen = [o for o in toy.overrides(world) if o.startswith(("suite", "encoder", "window"))]
    assert toy.command(evaluate, *chosen, "model=box", argument, f"hydra.run.dir={tmp_path}/run") == 2
    assert said in capfd.readouterr().err
