"""The authors' checkpoint layout: read to the last bit, and written so that they can read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from perank.errors import BadInput
from perank.model.anchors import AnchorSettings
from perank.model.encoders.encoder import Encoder
from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder
from perank.saving.authors_checkpoint import read_authors_checkpoint, write_authors_checkpoint
from support.tiny_families import chat_tokenizer, prompts, scores, tiny_llm, tiny_perank

ADDED = 2  # <PLACEHOLDER> and <RANK>


# The authors' own files


def test_their_checkpoint_is_read_and_written_back_to_the_last_bit(shared: Path, tmp_path: Path) -> None:
    theirs = shared / "fixtures" / "pe_rank"
    found = read_authors_checkpoint(theirs / "checkpoint", encoder=str(theirs / "encoder"))
    write_authors_checkpoint(tmp_path / "back", found.model, found.prompts, found.encoder)
    before, after = (load_file(folder / "model.safetensors") for folder in (theirs / "checkpoint", tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    config, again = (json.loads((f / "config.json").read_text()) for f in (theirs / "checkpoint", tmp_path / "back"))
    different = {key for key in config if config[key] != again.get(key)}
    assert different == {"_name_or_path", "encoder_name"}


def test_their_tokenizer_gives_the_same_ids_from_a_folder_written_here(shared: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, MistralConfig

    theirs = shared / "fixtures" / "pe_rank"
    found = read_authors_checkpoint(theirs / "checkpoint", encoder=str(theirs / "encoder"))
    write_authors_checkpoint(tmp_path / "back", found.model, found.prompts, found.encoder)
    user = [{"role": "user", "content": "Passage 1: [<PLACEHOLDER>]\n\nÄ cat <RANK>"}]
    ids = [
        AutoTokenizer.from_pretrained(folder, config=MistralConfig()).apply_chat_template(user).input_ids
        for folder in (theirs / "checkpoint", tmp_path / "back")
    ]
    assert ids[0] == ids[1]
    assert set(found.prompts.tokenizer.convert_tokens_to_ids(["<PLACEHOLDER>", "<RANK>"])) <= set(ids[0])


def test_what_their_config_says_is_used(shared: Path) -> None:
    theirs = shared / "fixtures" / "pe_rank"
    config = json.loads((theirs / "checkpoint" / "config.json").read_text())
    found = read_authors_checkpoint(theirs / "checkpoint", encoder=str(theirs / "encoder"))
    assert found.prompts.max_length == config["tokenizer_model_max_length"]
    assert found.prompts.version == "reference"
    assert found.encoder.pooling == config["encoder_pooling"]
    assert found.model.llm.config.rope_parameters["rope_theta"] == config["rope_theta"]
    assert not found.model.training


# Writing


def test_a_model_of_ours_comes_back_with_the_same_scores(good: Path, encoder: Encoder) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    found = read_authors_checkpoint(good, encoder=encoder)
    assert torch.equal(scores(found.model, found.prompts, vectors), scores(tiny_perank(), prompts(), vectors))


def test_two_tokens_are_added_whose_rows_are_the_mean_of_the_others(good: Path) -> None:
    from transformers import AutoTokenizer, MistralConfig

    base, size = tiny_llm().state_dict(), len(chat_tokenizer())
    found = load_file(good / "model.safetensors")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(found[key][:size], base[key])
        assert torch.allclose(found[key][size:], base[key].mean(0).expand(ADDED, -1))
    tokenizer = AutoTokenizer.from_pretrained(good, config=MistralConfig())
    assert tokenizer.convert_tokens_to_ids(["<PLACEHOLDER>", "<RANK>"]) == [size, size + 1]
    assert json.loads((good / "config.json").read_text())["vocab_size"] == size + ADDED
    assert len(chat_tokenizer()) == size  # the tokenizer at hand is left alone


def test_the_folder_speaks_the_language_of_transformers_4_37(good: Path) -> None:
    config = json.loads((good / "config.json").read_text())
    assert config["model_type"] == "embed_mistral"
    assert config["architectures"] == ["EmbedMistralForRankLM"]
    assert isinstance(config["rope_theta"], float)
    assert config["torch_dtype"] == "float32"
    settings = json.loads((good / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "[INST]" in settings["chat_template"]
    merges = json.loads((good / "tokenizer.json").read_text())["model"]["merges"]
    assert all(isinstance(merge, str) and merge.count(" ") == 1 for merge in merges)


def test_a_score_scale_is_folded_into_the_final_norm(encoder: Encoder, tmp_path: Path) -> None:
    scaled = tiny_perank(score_scale=0.25)
    write_authors_checkpoint(tmp_path / "scaled", scaled, prompts(), encoder)
    found = read_authors_checkpoint(tmp_path / "scaled", encoder=encoder)
    vectors = torch.randn(4, 16)
    expected = scores(tiny_perank(), prompts(), vectors) * 0.25
    assert torch.allclose(scores(found.model, found.prompts, vectors), expected, rtol=1e-4, atol=1e-4)
    assert float(found.model.score_scale) == 1


@pytest.mark.parametrize("tied", [False, True])
def test_other_families_and_tied_embeddings_work_the_same(encoder: Encoder, tmp_path: Path, tied: bool) -> None:
    model = PERank(tiny_llm(family="Llama", tie_word_embeddings=tied), tiny_perank().projector).eval()
    write_authors_checkpoint(tmp_path / "llama", model, prompts(), encoder)
    assert ("lm_head.weight" in load_file(tmp_path / "llama" / "model.safetensors")) != tied
    found, vectors = read_authors_checkpoint(tmp_path / "llama", encoder=encoder), torch.randn(3, 16)
    assert type(found.model.llm).__name__ == "LlamaForCausalLM"
    assert torch.equal(scores(found.model, found.prompts, vectors), scores(model, prompts(), vectors))


def test_half_precision_is_kept_on_disk_and_read_as_asked_for(encoder: Encoder, tmp_path: Path) -> None:
    model = PERank(tiny_llm().to(torch.bfloat16), tiny_perank().projector)
    write_authors_checkpoint(tmp_path / "half", model, prompts(), encoder)
    assert load_file(tmp_path / "half" / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    for dtype in ("bfloat16", "float32"):
        found = read_authors_checkpoint(tmp_path / "half", encoder=encoder, dtype=dtype).model
        assert str(found.llm.dtype) == f"torch.{dtype}"
        assert found.projector[0].weight.dtype == torch.float32


def adapted() -> PERank:
    from perank.model.llm import Lora
    from perank.model.lora import add_adapters

    model = tiny_perank()
    add_adapters(model.llm, Lora())
    return model


def gpt2() -> PERank:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=32, n_layer=1, n_head=2, vocab_size=len(chat_tokenizer()), bos_token_id=1, eos_token_id=2
    )
    return PERank(GPT2LMHeadModel(config), tiny_perank().projector)


@pytest.mark.parametrize(
    ("model", "builder", "problem"),
    [
        (lambda: tiny_perank(anchors=AnchorSettings(cosine=0.5)), prompts, "no anchored scores"),
        (tiny_perank, lambda: prompts("paper"), "this model uses 'paper'"),
        (tiny_perank, lambda: prompts(query_slot=True), "with a query slot"),
        (adapted, prompts, "aren't merged"),
        (gpt2, prompts, "doesn't support GPT2LMHeadModel"),
    ],
)
def test_what_the_layout_cannot_express_is_refused_and_nothing_written(
    model: Callable[[], PERank], builder: Callable[[], PromptBuilder], problem: str, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=problem):
        write_authors_checkpoint(tmp_path / "out", model(), builder(), encoder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="the folder is not empty"):
        write_authors_checkpoint(tmp_path, tiny_perank(), prompts(), encoder)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_write_that_fails_leaves_nothing_behind(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors
    import safetensors.torch

    def full(*_: object, **__: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(BadInput, match="No space left"):
        write_authors_checkpoint(tmp_path / "out", tiny_perank(), prompts(), encoder)
    assert list(tmp_path.iterdir()) == []


# Reading


def test_shards_are_read_through_their_index(copied: Path, encoder: Encoder) -> None:
    tensors = load_file(copied / "model.safetensors")
    names, weight_map = sorted(tensors), {}
    for shard in (0, 1):
        file = f"model-{shard + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names[shard::2]}, copied / file)
        weight_map |= dict.fromkeys(names[shard::2], file)
    (copied / "model.safetensors").unlink()
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    vectors = torch.randn(3, 16)
    found = read_authors_checkpoint(copied, encoder=encoder)
    assert torch.equal(scores(found.model, found.prompts, vectors), scores(tiny_perank(), prompts(), vectors))
    (copied / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BadInput, match="safetensors"):
        read_authors_checkpoint(copied, encoder=encoder)


def test_a_repository_on_the_hub_is_fetched_without_code(
    good: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(name=name, **options)
        return str(good)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert read_authors_checkpoint("someone/some-model", encoder=encoder, revision="abc").model is not None
    assert asked["name"] == "someone/some-model"
    assert asked["revision"] == "abc"
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["allow_patterns"])


def test_a_repository_that_cannot_be_fetched_is_a_bad_input(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(BadInput, match="no connection"):
        read_authors_checkpoint("someone/some-model", encoder=encoder)
