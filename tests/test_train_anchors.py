"""PE-Rank+ end to end on tiny models: anchors are fitted, trained along, saved, resumed and evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from perank.app.assembly import Assembly
from perank.errors import BadInput
from perank.evaluate import evaluate
from perank.files import CONF_DIR
from perank.ranking.reranker import Reranker
from perank.records import Candidates, Query, rank_order
from perank.saving.hub import from_pretrained
from perank.train import train
from perank.training.rows import RankRow, read_rows, row_record, write_rows
from support import toy

pytestmark = toy.QUIET
PLUS = ("anchors=plus", "data.pools=[log_uniform,first_stage_deep]", "evaluate_every=6")


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("plus")
    train(toy.composed(world, output, "rank", *PLUS))
    return output


def weights(output: Path, step: int) -> dict[str, float]:
    state = torch.load(output / "checkpoints" / f"step-{step:06d}.ckpt", weights_only=True)["state_dict"]
    prefix = "model.anchors.weights."
    return {name.removeprefix(prefix): float(value) for name, value in state.items() if name.startswith(prefix)}


def test_the_saved_model_has_the_trained_weights(run: Path) -> None:
    trained = weights(run, 12)
    anchors = from_pretrained(run / "model", dtype="float32").model.anchors
    assert anchors is not None
    assert {name: float(value) for name, value in anchors.weights.items()} == trained
    assert trained.keys() == {"cosine", "rank", "feedback", "llm"}
    assert trained["cosine"] not in (16.0, 0.0)
    assert trained["llm"] != 0  # it began at zero, and learnt


def test_the_llm_learns_although_it_begins_at_zero(run: Path, world: Path) -> None:
    states = [torch.load(run / "checkpoints" / f"step-{n:06d}.ckpt", weights_only=True)["state_dict"] for n in (5, 12)]
    moved = [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
    assert any("lora_" in name for name in moved)
    assert any("projector" in name for name in moved)


def test_a_resumed_run_ends_as_an_uninterrupted_one(run: Path, world: Path, tmp_path: Path) -> None:
    """Above all, it doesn't fit its anchors again."""
    train(toy.composed(world, tmp_path, "rank", *PLUS, f"ckpt_path={run}/checkpoints/step-000010.ckpt"))
    assert weights(tmp_path, 12) == weights(run, 12)


def test_anchors_are_added_to_the_weights_of_a_model_without_them(world: Path, tmp_path: Path) -> None:
    train(toy.composed(world, tmp_path / "plain", "rank", "evaluate=false"))
    config = toy.composed(world, tmp_path / "plus", "rank", *PLUS, f"start={tmp_path}/plain")
    model = Assembly(config).model
    plain = torch.load(tmp_path / "plain" / "checkpoints" / "step-000012.ckpt", weights_only=True)["state_dict"]
    for name, value in plain.items():
        torch.testing.assert_close(model.state_dict()[name.removeprefix("model.")], value)
    assert model.anchors.current.cosine == 16.0


def test_training_and_evaluation_name_the_rows(run: Path, world: Path, tmp_path: Path) -> None:
    chosen = [o for o in toy.overrides(world) if o.startswith(("suite", "encoder", "window"))]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("evaluate", overrides=[*chosen, "dtype=float32", f"model={run}/model"])
    with open_dict(config):
        config.paths.output = str(tmp_path)
    rows = {(row.system, row.baseline): row for row in evaluate(config) if row.metric == "ndcg@10"}
    assert {"PE-Rank+", "anchors alone", "encoder"} <= {system for system, _ in rows}
    assert rows["PE-Rank+", "anchors alone"].p_value is not None
    here, there = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, run))
    for system in ("beir/PE-Rank+", "beir/anchors alone"):
        files = [folder / f"{entries[system]['files']}.trec" for folder, entries in ((tmp_path, here), (run, there))]
        assert files[0].read_text() == files[1].read_text()


def test_drawn_rows_carry_their_ranks_in_the_first_stage(world: Path, tmp_path: Path) -> None:
    assembly = Assembly(toy.composed(world, tmp_path, "rank", *PLUS))
    found = assembly.first_stage.search(assembly.collection, depth=20)
    for row in assembly.data.kept:
        ranking = rank_order(found[row.query.id])
        assert row.first == tuple(ranking[:5])
        assert row.ranks == tuple(ranking.index(id) if id in ranking else len(ranking) for id in row.passage_ids)
    ranks = [rank for row in assembly.data.kept for rank in row.ranks or ()]
    assert max(ranks) > 5 and 0 in ranks


def test_rows_begin_with_the_weighted_feedback_that_ranking_begins_with(world: Path, tmp_path: Path) -> None:
    weighted = ["anchors.first=12", "anchors.temperature=0.05", "anchors.stepwise=false", "data.shuffle=false"]
    assembly = Assembly(toy.composed(world, tmp_path, "rank", *PLUS, *weighted))
    found = assembly.first_stage.search(assembly.collection, depth=20)
    ranker = Reranker(assembly.model, assembly.prompts, encoder=assembly.encoder, store=assembly.store)
    for position in range(4):
        row, example = assembly.data.kept[assembly.data.groups.row_at(position)], assembly.data.example(position)
        ids = rank_order(found[row.query.id])
        passages = tuple(assembly.collection.passages[id] for id in ids)
        query = ranker.begin(Candidates(row.query, passages))
        assert example.first_E is not None and query.first_E is not None
        torch.testing.assert_close(torch.from_numpy(example.first_E), query.first_E)


def test_a_shuffled_and_shortened_row_keeps_its_ranks() -> None:
    row = RankRow(Query("q", "otter"), ("a", "b", "c", "d"), (3, 1, 0, 2), (1, 7, 0, 30))
    shown = row.shown([3, 0])
    assert (shown.passage_ids, shown.ranks) == (("d", "a"), (30, 1))
    assert shown.best(2) == row.best(2) == {"c": 0, "a": 1}


def test_rows_are_written_and_read_with_their_ranks(tmp_path: Path) -> None:
    rows = [
        RankRow(Query("q", "otter"), ("a", "b"), (1, 0), (4, 0), ("b", "c")),
        RankRow(Query("r", "rain"), ("a", "b"), (1, 0)),
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    for key, value in {"ranks": [1], "first": ["a", 3]}.items():
        (tmp_path / "bad.jsonl").write_text(json.dumps({**row_record(rows[0]), key: value}))
        with pytest.raises(BadInput, match=key):
            read_rows(tmp_path / "bad.jsonl")


def test_rows_without_ranks_are_refused(world: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [RankRow(Query("q0", "otter"), ("p1", "p2"), (1, 0))])
    config = toy.composed(world, tmp_path, "rank", "anchors=plus", f"data.rows_path={tmp_path}/rows.jsonl")
    with pytest.raises(BadInput, match="no first-stage ranks"):
        _ = Assembly(config).data
