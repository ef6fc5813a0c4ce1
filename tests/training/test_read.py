"""The reading stage: an LLM learns to turn a query's words into a vector, and stage 2 starts from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.test_splade import save_masked_lm
from perank.app.assembly import Assembly
from perank.app.reading import ReadAssembly
from perank.errors import BadInput
from perank.model.batches import PromptBatch
from perank.model.projector_init import hidden_of
from perank.preparation.judged_map import judged_map
from perank.ranking.reranker import Reranker
from perank.saving.hub import from_pretrained, save_pretrained, saved_weights
from perank.train import train
from perank.training.read import read_scores
from support import tiny, toy

pytestmark = toy.QUIET

NOT_FOR_READING = ("data.rows=", "data.candidates=", "data.pool_depth=", "projector.sample=")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_masked_lm(tmp_path_factory.mktemp("splade"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LLM whose hidden states have room for the encoder's dimensions."""
    folder = tmp_path_factory.mktemp("llm")
    tiny.tiny_llm(3, layers=2, width=64, heads=4, kv_heads=2, initializer_range=0.1).save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


def reading(world: Path, teacher: Path, output: Path, *more: str) -> ReadAssembly:
    return ReadAssembly(composed(world, teacher, output, *more))


def composed(world: Path, teacher: Path, output: Path, *more: str) -> object:
    kept = [override for override in toy.overrides(world, "reader") if not override.startswith(NOT_FOR_READING)]
    own = [
        f"target.teacher.name={teacher}",
        "target.teacher.max_length=32",
        "target.tower.steps=20",
        "data.epochs=40",
        "data.passages=2",
        "data.wide=5",
        "optimizer.lr=3e-3",
        "backbone.train_embeddings=false",
        "trainer.precision=null",
    ]
    return toy.composed_of([*kept, *own, *more], output)


def test_reading_explains_the_targets_and_the_saved_model_scores_as_they_say(
    world: Path, teacher: Path, wide: Path, tmp_path: Path
) -> None:
    train(composed(world, teacher, tmp_path, f"backbone.name={wide}"))
    assembly = reading(world, teacher, tmp_path / "again")
    saved = Reranker.from_pretrained(tmp_path / "model", dtype="float32")
    sample = assembly._sample(100)
    scores, targets = [], []
    assert sample.slot_QE is not None
    for text, own_E, target_E in zip(sample.queries, sample.slot_QE, sample.vectors_QE, strict=True):
        prompt = saved.prompts.rank(text, 5)
        h_1D = saved.model.read(PromptBatch.of([prompt]), sample.vectors_XE[None, :5], own_E[None])
        scores.append(saved.model.score_scale * (saved.model.project(sample.vectors_XE) @ h_1D[0]))
        targets.append(sample.vectors_XE @ target_E)
    estimate, truth = (torch.stack(rows) for rows in (scores, targets))
    estimate, truth = (rows - rows.mean(0) for rows in (estimate, truth))  # what all queries share is left out
    estimate, truth = (rows - rows.mean(1, keepdim=True) for rows in (estimate, truth))
    assert torch.corrcoef(torch.stack([estimate.flatten(), truth.flatten()]))[0, 1] > 0.9


def test_stage_2_starts_from_the_saved_reader(world: Path, teacher: Path, tmp_path: Path) -> None:
    train(composed(world, teacher, tmp_path, "data.epochs=1"))
    left = Reranker.from_pretrained(tmp_path / "model", dtype="float32").model
    plain = ["~backbone.lora", "backbone.train_embeddings=false", f"start={tmp_path}/model"]
    kept = [override for override in toy.overrides(world, "rank") if "backbone.lora" not in override]
    begun = Assembly(
        toy.composed_of(
            [
                *kept,
                "backbone=smollm2_first2",
                f"backbone.name={world}/llm",
                "backbone.num_layers=null",
                *plain[1:],
                "anchors=plus",
            ],
            tmp_path / "rank",
        )
    ).model
    assert begun.score_scale == left.score_scale
    for name, value in begun.decoder.layers.state_dict().items():
        assert torch.equal(value, left.decoder.layers.state_dict()[name]), name
    assert all(
        torch.equal(value, left.projector.state_dict()[name]) for name, value in begun.projector.state_dict().items()
    )


def test_reading_resumes_with_the_weights_it_would_have_had(world: Path, teacher: Path, tmp_path: Path) -> None:
    train(composed(world, teacher, tmp_path / "whole", "data.epochs=4"))
    first = min((tmp_path / "whole" / "checkpoints").iterdir())
    train(composed(world, teacher, tmp_path / "part", "data.epochs=4", f"ckpt_path={first}"))
    assert toy.weights(tmp_path / "whole") == toy.weights(tmp_path / "part")


def test_a_loaded_model_of_trained_layers_is_saved_as_it_was(world: Path, teacher: Path, tmp_path: Path) -> None:
    train(composed(world, teacher, tmp_path, "data.epochs=1"))
    found = from_pretrained(tmp_path / "model", merge=False, dtype="float32")
    made_of = {"llm": found.llm, "prompts": found.prompts, "encoder": found.encoder}
    again = save_pretrained(tmp_path / "again", found.model, **made_of, whole_llm=True)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "model" / "model.safetensors").read_bytes()
    assert not (again / "llm").exists()
    weights = saved_weights(again, found.llm)
    assert any(key.startswith("llm.") for key in weights) and not any("embed" in key for key in weights)


def test_weights_of_another_llm_are_refused(world: Path, teacher: Path, wide: Path, tmp_path: Path) -> None:
    train(composed(world, teacher, tmp_path, "data.epochs=1"))
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace(f"{world}/llm", str(wide)))
    with pytest.raises(BadInput, match="wrong shape"):
        from_pretrained(tmp_path / "model")


def test_targets_of_the_papers_form_hold_the_querys_own_vector(world: Path, teacher: Path, tmp_path: Path) -> None:
    common = ["target.judged=null", "+target.tower.seed=7"]
    learned, whole = (reading(world, teacher, tmp_path, f"target.cosine={cosine}", *common) for cosine in (0.0, 0.5))
    ids = list(learned.collection.queries)
    own_QE = np.asarray(whole.query_vectors.get(ids))
    np.testing.assert_allclose(whole.targets.get(ids), learned.targets.get(ids) + 0.5 * own_QE, atol=1e-6)
    again = reading(world, teacher, tmp_path, "target.cosine=0.5", *common)
    again.query_vectors = None  # what is cached isn't encoded again
    np.testing.assert_array_equal(again.targets.get(ids), whole.targets.get(ids))


def test_targets_hold_what_judgements_say_and_are_cached_by_all_they_depend_on(
    world: Path, teacher: Path, tmp_path: Path
) -> None:
    judged = ["target.judged.depth=5", "+target.judged.batch=16", "target.judged.steps=30"]
    plain, taught, longer = (
        reading(world, teacher, tmp_path, *more)
        for more in (["target.judged=null"], judged, [*judged, "target.judged.steps=31"])
    )
    ids = list(plain.collection.queries)
    moved = taught.targets.get(ids) - plain.targets.get(ids)
    assert 0 < np.abs(moved).max() < np.abs(longer.targets.get(ids) - plain.targets.get(ids)).max() * 1.5
    settings = taught.make("target").judged
    lists = taught._judged_lists(settings, plain.targets)
    own_QE = torch.from_numpy(np.asarray(taught.query_vectors.get(ids)))
    np.testing.assert_allclose(moved, judged_map(lists, settings)(own_QE).numpy(), atol=1e-5)
    assert lists.relevant_RN.any(1).all() and lists.vectors_RNE.shape[1] == 5


def test_questions_without_a_judged_candidate_are_refused(world: Path, teacher: Path, tmp_path: Path) -> None:
    unjudged = reading(world, teacher, tmp_path, "target.judged.depth=39")
    with pytest.raises(BadInput, match=r"target\.judged=null"):
        unjudged.targets  # noqa: B018


def test_the_querys_vector_reaches_its_slot(world: Path, teacher: Path, tmp_path: Path) -> None:
    assembly = reading(world, teacher, tmp_path)
    batch = assembly.data.collate([assembly.data.example(position) for position in range(4)])
    ids = [row.id for row in assembly.data.kept]
    known = torch.from_numpy(np.asarray(assembly.query_vectors.get(ids)))
    assert batch.query_BE is not None and (batch.prompt.query_slot_B > 0).all()
    assert (torch.cdist(batch.query_BE, known).min(1).values < 1e-6).all()
    with torch.no_grad():
        own, other = (
            assembly.model.read(batch.prompt, batch.vectors_BNE, q) for q in (batch.query_BE, batch.query_BE.flip(0))
        )
    assert not torch.allclose(own, other)
    assert reading(world, teacher, tmp_path, "prompt.query_slot=false").data.query_vectors is None


def test_what_is_read_where_the_prompt_ends_with_the_querys_vector_begins_as_it(
    world: Path, teacher: Path, wide: Path, tmp_path: Path
) -> None:
    found = {}
    for slot in ("true", "last"):
        more = [f"backbone.name={wide}", "target.judged=null", "projector.scale=100", f"prompt.query_slot={slot}"]
        begun = reading(world, teacher, tmp_path, *more)
        sample = begun._sample(40)
        assert sample.slot_QE is not None
        places_QN = torch.arange(len(sample.queries) * 5).view(-1, 5) % len(sample.vectors_XE)
        hidden_QD = hidden_of(begun.model, begun.prompts, sample, places_QN, batch=8)
        with torch.no_grad():
            pairs = read_scores(begun.model, hidden_QD, sample.vectors_XE, sample.slot_QE)
        found[slot] = float(torch.corrcoef(torch.stack([scores_QX.flatten() for scores_QX in pairs]))[0, 1])
    assert found["last"] > 0.85 and found["true"] < 0.5


def test_reading_on_keeps_the_projector_and_explains_more_of_the_scores(
    world: Path, teacher: Path, wide: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train(composed(world, teacher, first, f"backbone.name={wide}", "data.epochs=10"))
    train(composed(world, teacher, second, f"backbone.name={wide}", f"start={first}/model", "data.epochs=20"))
    before, after = (
        [float(line["train/explained"]) for line in toy.logged(run / "metrics.csv")] for run in (first, second)
    )
    assert np.mean(before[-5:]) > np.mean(before[:5]) + 0.1
    assert np.mean(after[-5:]) > np.mean(before[-5:])
    models = [from_pretrained(run / "model", merge=False, dtype="float32").model for run in (first, second)]
    states = [model.projector.state_dict() for model in models]
    assert all(map(torch.equal, *(state.values() for state in states)))
    assert torch.equal(models[0].score_scale, models[1].score_scale)
    layers = [model.decoder.layers[-1].self_attn.v_proj.weight for model in models]
    assert not torch.equal(*layers)
