"""Both stages end to end on tiny models: what they leave behind, what they change, what they refuse."""

from __future__ import annotations

import gc
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file

from perank import Reranker
from perank.app.assembly import Assembly
from perank.errors import BadInput
from perank.model.pe_rank import PERank
from perank.sources.trec import read_run
from perank.train import train
from perank.training.rank import RankModule
from perank.training.rows import read_rows
from support import toy

pytestmark = toy.QUIET


@pytest.fixture(scope="module")
def aligned(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("aligned")
    train(toy.composed(world, output, "align"))
    return output


@pytest.fixture(scope="module")
def ranked(world: Path, aligned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("ranked")
    train(toy.composed(world, output, "rank", f"projector.path={aligned}/projector.safetensors"))
    return output


def checkpoint(output: Path, step: int) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(output / "checkpoints" / f"step-{step:06d}.ckpt", weights_only=True)
    return content


def kept_parts(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> Assembly:
    """Train, and hand out the parts it was done with."""
    made: list[Assembly] = []

    class Kept(Assembly):
        def __init__(self, config: DictConfig) -> None:
            super().__init__(config)
            made.append(self)

    monkeypatch.setattr("perank.app.training_run.Assembly", Kept)
    train(config)
    return made[0]


def reranked(model: Path, world: Path) -> dict[str, list[str]]:
    """Query id -> passage ids, by a saved model over the candidates of the run's own suite."""
    reranker = Reranker.from_pretrained(model, dtype="float32")
    suite = Assembly(toy.composed(world, model.parent)).suites[0]
    return {ranking.candidates.query.id: ranking.passage_ids for ranking in reranker.rank_batch(suite.candidates())}


def in_order(run: Path) -> dict[str, list[str]]:
    return {query: sorted(scores, key=scores.__getitem__, reverse=True) for query, scores in read_run(run).items()}


def test_align_leaves_a_projector_a_model_metrics_and_checkpoints_of_the_projector_alone(aligned: Path) -> None:
    assert {path.name for path in aligned.iterdir()} >= {
        "projector.safetensors",
        "model",
        "metrics.json",
        "metrics.csv",
    }
    entry = json.loads((aligned / "metrics.json").read_text())["beir/PE-Rank"]
    assert 0 <= entry["means"]["ndcg@10"] <= 1
    assert entry["p_values"].keys() == {"Bm25", "encoder", "fusion"}
    keys = checkpoint(aligned, 10)["state_dict"].keys()
    assert keys == {f"model.projector.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")} | {
        "model.score_scale"
    }


def test_a_finished_run_leaves_no_model_in_memory(world: Path, tmp_path: Path) -> None:
    def models() -> int:
        gc.collect()
        return sum(isinstance(found, PERank) for found in gc.get_objects())

    before = models()
    train(toy.composed(world, tmp_path, "rank"))
    assert models() == before  # a sweep runs its jobs one after the other in one process


def test_a_checkpoint_of_adapters_holds_adapters_and_projector_and_nothing_frozen(ranked: Path) -> None:
    keys = checkpoint(ranked, 12)["state_dict"].keys()
    assert all("lora_" in key or key.startswith(("model.projector.", "model.score_scale")) for key in keys)
    assert sum("lora_" in key for key in keys) == 4  # A and B of q_proj and v_proj in the only layer


@pytest.mark.slow
def test_ranking_takes_up_the_projector_that_alignment_left(world: Path, aligned: Path, tmp_path: Path) -> None:
    path = aligned / "projector.safetensors"
    train(toy.composed(world, tmp_path, "rank", f"projector.path={path}", "optimizer.lr=1e-12", "data.rows=4",
                       "optimizer.projector_lr=null", "evaluate=false"))  # fmt: skip
    before, after = load_file(path), load_file(tmp_path / "projector.safetensors")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-10)


def test_the_saved_model_ranks_as_the_trained_one_did(ranked: Path, world: Path) -> None:
    assert reranked(ranked / "model", world) == in_order(ranked / "beir.PE-Rank.trec")


def test_ranking_changes_adapters_and_projector_and_neither_the_llm_nor_the_encoder(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = toy.digest(load_file(world / "encoder" / "model.safetensors"))
    parts = kept_parts(toy.composed(world, tmp_path), monkeypatch)
    original = load_file(world / "llm" / "model.safetensors")
    held = {name.replace("base_layer.", ""): value for name, value in parts.model.llm.state_dict().items()}
    for name, value in original.items():
        assert torch.equal(held[name], value), name
    for name, value in checkpoint(tmp_path, 12)["state_dict"].items():
        if "lora_B" in name:
            assert value.abs().max() > 0, f"{name} still is where adapters start"
    assert not parts.encoder.model.training
    assert not any(parameter.requires_grad for parameter in parts.encoder.model.parameters())
    assert {k: v for k, v in parts.encoder.model.state_dict().items() if v.requires_grad} == {}
    assert toy.digest(load_file(world / "encoder" / "model.safetensors")) == encoder
    fresh = load_file(world / "encoder" / "model.safetensors")
    assert all(torch.equal(parts.encoder.model.state_dict()[name], fresh[name]) for name in fresh)


@pytest.mark.slow
def test_full_fine_tuning_changes_the_llm_and_saves_it_whole(world: Path, tmp_path: Path) -> None:
    train(toy.composed(world, tmp_path, "rank", "backbone.lora=null"))
    trained, original = (load_file(f / "model.safetensors") for f in (tmp_path / "model" / "llm", world / "llm"))
    changed = {name for name in original if not torch.equal(trained[name], original[name])}
    assert {name for name in original if "proj" in name} <= changed
    assert "lm_head.weight" not in changed  # scores never pass it
    assert reranked(tmp_path / "model", world) == in_order(tmp_path / "beir.PE-Rank.trec")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["paper", "reference"])
def test_losses_with_texts_log_their_terms_and_add_up(world: Path, tmp_path: Path, loss: str) -> None:
    train(toy.composed(world, tmp_path, "rank", f"loss={loss}", "data.rows=8", "evaluate=false"))
    row = toy.logged(tmp_path / "metrics.csv")[0]
    rank, content, kl, total = (float(row[f"train/{name}"]) for name in ("rank", "content", "kl", "loss"))
    assert total == pytest.approx(rank + content + 0.2 * kl, rel=1e-5)
    assert kl > 0


@pytest.mark.slow
def test_a_learnable_task_is_learned(world: Path, tmp_path: Path) -> None:
    train(toy.composed(world, tmp_path, "rank", "data.rows=640", "optimizer.lr=2e-2", "optimizer.projector_lr=2e-2",
                       "backbone.lora.dropout=0", "evaluate=false", "data.pools=[first_stage]"))  # fmt: skip
    curve = [loss for _, loss in sorted(toy.losses(tmp_path).items())]
    assert len(curve) == 160
    assert sum(curve[-10:]) / 10 < 0.5 * sum(curve[:5]) / 5


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_weights(world: Path, tmp_path: Path, workers: int) -> None:
    """With the content prompt, the query's slot and anchors on: everything that an example can hold."""
    settings = ["loss=paper", "prompt.query_slot=true", "anchors=plus", "data.rows=16", "evaluate=false"]
    for n in (0, workers):
        train(toy.composed(world, tmp_path / str(n), "rank", *settings, f"data.num_workers={n}"))
    assert toy.weights(tmp_path / "0") == toy.weights(tmp_path / str(workers))
    assert toy.losses(tmp_path / "0") == toy.losses(tmp_path / str(workers))


@pytest.mark.slow
def test_another_seed_gives_other_weights(world: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(toy.composed(world, tmp_path / str(seed), "rank", "data.rows=8", "evaluate=false", f"seed={seed}"))
    assert toy.weights(tmp_path / "0") != toy.weights(tmp_path / "1")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_training_before_it_spoils_anything(world: Path, tmp_path: Path) -> None:
    state = load_file(_projector(world, tmp_path))
    state["2.bias"][0] = torch.inf
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(BadInput, match=r"finite|nan|inf"):
        train(toy.composed(world, tmp_path / "run", "rank", f"projector.path={tmp_path}/broken.safetensors",
                           "projector.score_deviation=null", "evaluate=false"))  # fmt: skip
    assert not list((tmp_path / "run").rglob("*.safetensors"))
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def _projector(world: Path, folder: Path) -> Path:
    from perank.model.projector import Projector
    from perank.model.projector_io import save_projector

    path = folder / "projector.safetensors"
    save_projector(Projector(8, 16), path)
    return path


def test_fewer_rows_than_a_step_are_refused_and_not_trained_on_silently(world: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="48 rows are fewer than one step of 49"):
        train(toy.composed(world, tmp_path, "rank", "data.batch_size=49"))


def test_a_run_that_is_told_to_end_says_so_and_goes_on_where_it_was(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = RankModule.training_step
    settings = ["data.rows=32", "evaluate=false", "callbacks.checkpoint.every_n_train_steps=1", f"ckpt_path={tmp_path}"]

    def ending(self: RankModule, batch: Any, index: int) -> Any:
        if index == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, index)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(RankModule, "training_step", ending)
        train(toy.composed(world, tmp_path, "rank", *settings))
    assert ended.value.code == 143
    assert not (tmp_path / "model").exists()
    train(toy.composed(world, tmp_path, "rank", *settings))
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_feedback_is_learned_from_prompts_in_the_first_stages_order_and_refused_for_shuffled_ones(
    world: Path, tmp_path: Path
) -> None:
    settings = ["loss.distil=1.0", "loss.feedback=[0.2,0.1]", "data.rows=8", "evaluate=false"]
    with pytest.raises(BadInput, match=r"data\.shuffle=false"):
        train(toy.composed(world, tmp_path / "shuffled", "rank", *settings))
    train(toy.composed(world, tmp_path / "ordered", "rank", *settings, "data.shuffle=false"))
    assert (tmp_path / "ordered" / "model" / "model.safetensors").is_file()


def test_any_ranker_teaches_the_rows_that_training_draws(world: Path, tmp_path: Path, own_cache: Path) -> None:
    teacher = ["teacher=ranker", "teacher.ranker={_target_:preparation.test_ranking_set.Backwards}"]
    settings = [*teacher, "teacher.judged_first=false", "data.rows=8", "data.pools=[first_stage]", "evaluate=false"]
    train(toy.composed(world, tmp_path, "rank", *settings))
    (path,) = (own_cache / "rows").glob("*.jsonl")
    assert {row.order for row in read_rows(path)} == {(4, 3, 2, 1, 0)}
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["teacher=run"], r"teacher\.path"),
        (["teacher=ranker"], r"teacher\.ranker"),
        (
            ["teacher=ranker", "teacher.ranker={_target_:perank.records.Query,id:a,text:b}"],
            "the teacher is not a ranker",
        ),
        (["teacher=fused", "teacher.weight=-1"], r"teacher\.weight"),
        (["+teacher.kind=run"], r"teacher\.kind"),
        (["+teacher.judged_first=maybe"], r"teacher\.judged_first"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_teacher_that_cannot_teach_is_refused_by_its_setting(
    world: Path, tmp_path: Path, settings: list[str], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        train(toy.composed(world, tmp_path, "rank", *settings))


def test_a_trainer_that_would_go_through_the_stream_twice_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data\.epochs"):
        train(toy.composed(world, tmp_path, "rank", "trainer.max_epochs=2"))


def test_a_suite_that_cannot_be_measured_is_refused_before_training(world: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        train(toy.composed(world, tmp_path, "rank", "suite.beir.first_stage=none.trec"))
    assert not list(tmp_path.rglob("*.ckpt"))
