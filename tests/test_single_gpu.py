"""`scale=single_gpu`: it fits 24 GB by the doctor, and every stage runs, here with a tiny Qwen3 and a tiny BERT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict
from safetensors.torch import load_file
from torch import Tensor

from perank.doctor import main
from perank.evaluate import evaluate
from perank.files import CONF_DIR
from perank.prepare import prepare
from perank.train import train
from perank.training.rows import read_rows
from support import tiny, toy

pytestmark = toy.QUIET


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection, and models of the scale's architectures: Qwen3 with a tied table, BERT."""
    folder = tmp_path_factory.mktemp("world")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8, "tie_word_embeddings": True}
    tiny.llm_of("qwen3", len(tiny.tiny_tokenizer()), initializer_range=0.1, **sizes).save_pretrained(folder / "llm")
    tiny.tiny_tokenizer().save_pretrained(folder / "llm")
    tiny.tiny_encoder(folder / "encoder")
    toy.make_collection(folder / "collection")
    return folder


def composed(world: Path, output: Path, name: str, *overrides: str) -> DictConfig:
    """The command's config, with the scale's models and collection replaced by the tiny ones."""
    models = [f"encoder.name={world}/encoder", "encoder.max_length=32"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(name, overrides=[*models, *overrides])
    with open_dict(config):
        config.paths.output, config.paths.data = str(output), str(world / "data")
    return config


def of_the_scale(world: Path, limit: int = 30) -> list[str]:
    """Overrides for commands that have a collection and an LLM."""
    corpus = ["_target_=perank.sources.beir.BeirCollection", f"+folder={world}/collection", "+split=train"]
    named = [f"{'+' if o.startswith('+') else ''}collection.collection.{o.lstrip('+')}" for o in corpus]
    return [*named, "~collection.collection.dataset_id", f"collection.limit={limit}", f"backbone.name={world}/llm"]


def training(world: Path, output: Path, stage: str, *overrides: str) -> DictConfig:
    recipe = [
        f"+experiment={stage}",
        "scale=single_gpu",
        "trainer.accelerator=cpu",
        "+trainer.enable_progress_bar=false",
        "callbacks.progress=null",
        "data.num_workers=0",
        "window.window=5",
        "window.step=3",
        "projector.sample=30",
        "suite=beir",
        f"suite.beir.collection.folder={world}/collection",
        "suite.beir.depth=7",
    ]
    return composed(world, output, "train", *recipe, *of_the_scale(world), *overrides)


@pytest.fixture(scope="module")
def aligned(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("aligned")
    train(training(world, output, "align", "data.rows=20", "data.batch_size=4"))
    return output


@pytest.fixture(scope="module")
def rows(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's command for perank.prepare writes, with another teacher and fewer candidates."""
    overrides = ["preparation=msmarco", "collection=msmarco_million", "encoder=bge_small", "backbone=qwen3"]
    small = ["preparation.candidates=5", "preparation.max_tokens=null", "teacher=encoder", "progress=false"]
    path = f"preparation.output={world}/data/msmarco_million.rows.jsonl"
    config = composed(world, tmp_path_factory.mktemp("x"), "prepare", *overrides, *small, *of_the_scale(world), path)
    prepare(config)
    return world / "data" / "msmarco_million.rows.jsonl"


@pytest.mark.parametrize("stage", ["rank", "listwise"])
def test_rows_are_made_and_every_weight_but_the_table_is_trained(
    world: Path, aligned: Path, rows: Path, tmp_path: Path, stage: str
) -> None:
    assert all(len(row.passage_ids) == 5 for row in read_rows(rows))
    sizes = ["data.rows=12", "data.batch_size=2", "trainer.accumulate_grad_batches=2", "data.candidates=5"]
    start = [f"projector.path={aligned}/projector.safetensors"] if stage == "rank" else ["evaluate=false"]
    experiment = {"rank": "rank", "listwise": "rankmistral"}[stage]
    train(training(world, tmp_path, experiment, *sizes, *start))
    before, after = load_file(world / "llm" / "model.safetensors"), _weights(tmp_path)
    changed = {name for name in before if name in after and not before[name].equal(after[name])}
    assert "model.embed_tokens.weight" not in changed
    assert {name for name in before if "proj" in name} <= changed


def test_the_trained_model_is_evaluated(world: Path, aligned: Path, rows: Path, tmp_path: Path) -> None:
    train(training(world, tmp_path, "rank", "data.rows=8", "data.candidates=5", "evaluate=false"))
    suite = ["suite=beir", f"suite.beir.collection.folder={world}/collection", "suite.beir.depth=7"]
    found = evaluate(composed(world, tmp_path / "evaluated", "evaluate", *suite, f"model={tmp_path}/model"))
    assert {row.system for row in found} >= {"PE-Rank", "encoder"}
    assert {row.n_queries for row in found if row.metric == "ndcg@10"} == {5}


@pytest.mark.parametrize(
    ("overrides", "gib", "hours"), [(["+experiment=rank"], 14, (2, 8)), (["+experiment=align"], 10, (0.2, 2))]
)
@pytest.mark.slow  # without a network the Hub is asked for a minute and a half before its shapes are taken from here
def test_a_card_of_24_gb_holds_both_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], gib: float, hours: tuple[float, float]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments = ["scale=single_gpu", "gpu=rtx4090_24gb", f"hydra.run.dir={tmp_path}", *overrides]
    assert toy.command(main, *arguments) == 0
    found = json.loads((tmp_path / "doctor.json").read_text())
    trained = {part["name"]: part["trained"] for part in found["parts"]}
    assert trained["token embeddings"] == 0
    assert trained["projector"] == 384 * 1024 + 1024 + 1024 * 1024 + 1024
    assert sum(item["bytes"] for item in found["memory"] if item["counts"]) < gib * 2**30
    work, gpu = found["work"], found["gpu"]
    spent = work["steps"] * work["flops"] / (gpu["bf16_tflops"] * 1e12 * gpu["utilisation"]) / 3600
    assert hours[0] < spent < hours[1]


def _weights(run: Path) -> dict[str, Tensor]:
    """The LLM's saved weights: of a PE-Rank model only its layers, since the table is as it was."""
    whole = run / "model" / "llm" / "model.safetensors"
    if whole.is_file():
        return load_file(whole)
    return {name.removeprefix("llm."): value for name, value in load_file(run / "model" / "model.safetensors").items()}
