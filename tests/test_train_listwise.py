"""RankMistral's stage end to end on a tiny LLM: it learns, resumes to the last bit, and leaves a ranker behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from perank.app.assembly import Assembly
from perank.baselines.loading import TrainedListwiseRanker
from perank.baselines.permutation import permutation
from perank.errors import BadInput
from perank.evaluation.attempts import rank_each
from perank.ranking.windows import Windows
from perank.saving.hub import from_pretrained
from perank.sources.candidates import candidates_run
from perank.sources.trec import read_run
from perank.train import train
from support import small_llms, toy

pytestmark = toy.QUIET


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy world with an LLM that knows identifiers."""
    folder = toy.make_world(tmp_path_factory.mktemp("world"))
    small_llms.llm(1, initializer_range=0.1).float().save_pretrained(folder / "llm")
    small_llms.tokenizer().save_pretrained(folder / "llm")
    return folder


def composed(world: Path, output: Path, *more: str) -> DictConfig:
    settings = ["data.candidates=5", "data.pool_depth=20", *toy.LORA]
    settings.append("trainer.accumulate_grad_batches=1")
    settings += ["prompt.version=compact", "prompt.max_length=2048", "prompt.text_tokens=48"]
    return toy.composed(world, output, "rankmistral", *settings, *more)


def whole(*more: str) -> list[str]:
    return ["backbone.lora=null", "data.rows=48", "optimizer.lr=3e-3", *more]


@pytest.fixture(scope="module")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    train(composed(world, output, "data.rows=48", "data.batch_size=4"))
    return output


def test_it_leaves_a_model_metrics_and_checkpoints_and_no_projector(trained: Path) -> None:
    assert not (trained / "projector.safetensors").exists()
    entry = json.loads((trained / "metrics.json").read_text())["beir/text listwise"]
    assert entry["p_values"].keys() == {"Bm25", "encoder", "fusion"}
    assert entry["costs"]["tokens_generated"] > 0
    keys = torch.load(trained / "checkpoints" / "step-000012.ckpt", weights_only=True)["state_dict"].keys()
    assert keys
    assert all("lora_" in key for key in keys)


def test_the_saved_folder_ranks_as_the_model_did_when_training_ended(trained: Path, world: Path) -> None:
    ranker = TrainedListwiseRanker(name=str(trained / "model"), dtype="float32", device="cpu", window=Windows(5, 3))
    suite = Assembly(toy.composed(world, trained)).suites[0]
    again = candidates_run(rank_each(ranker, suite.candidates(), progress=False).rankings)
    kept = read_run(trained / "beir.text_listwise.trec")
    assert {id: sorted(run, key=run.__getitem__) for id, run in again.items()} == {
        id: sorted(run, key=run.__getitem__) for id, run in kept.items()
    }


def test_an_llm_trained_whole_learns_and_lies_in_the_folder(world: Path, tmp_path: Path) -> None:
    train(composed(world, tmp_path, *whole("data.rows=400", "evaluate=false", "callbacks.checkpoint=null")))
    losses = toy.losses(tmp_path)
    assert losses[max(losses)] < 0.6 * losses[0]
    assert (tmp_path / "model" / "llm" / "model.safetensors").is_file()
    ranker = TrainedListwiseRanker(name=str(tmp_path / "model"), dtype="float32", device="cpu").ranker
    found = small_llms.candidates(5)
    prompt = ranker.prompts.rank(found.query.text, [passage.text for passage in found.passages])
    text = ranker.writer.write([prompt.ids], [11], lambda b, text: False).texts[0]
    repairs = permutation(text, 5).repairs
    assert (repairs.rephrased, repairs.out_of_range) == (0, 0), text  # it writes rankings now


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(trained: Path, world: Path, tmp_path: Path) -> None:
    path = trained / "checkpoints" / "step-000005.ckpt"
    if not path.is_file():
        path = trained / "checkpoints" / "step-000010.ckpt"
    train(composed(world, tmp_path, "data.rows=48", "data.batch_size=4", f"ckpt_path={path}", "evaluate=false"))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (trained / "model" / name).read_bytes()


def test_models_of_the_other_kind_are_refused_by_name(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a PE-Rank model of format 1, found 'listwise-1'"):
        from_pretrained(trained / "model")
    (tmp_path / "config.json").write_text('{"format": 1}')
    with pytest.raises(BadInput, match="expected a text ranker of format 'listwise-1'"):
        TrainedListwiseRanker(name=str(tmp_path))


def test_weights_that_were_swapped_are_refused(trained: Path, tmp_path: Path) -> None:
    for file in (trained / "model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(BadInput, match="SHA-256 differs"):
        TrainedListwiseRanker(name=str(tmp_path))
