"""One projector, from every place where one may lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.model.projector_io import load_projector, save_projector, write_authors_projector
from perank.model.prompts import PromptBuilder
from perank.ranking.reranker import Reranker
from perank.saving.authors_checkpoint import read_authors_checkpoint, write_authors_checkpoint
from perank.saving.hub import from_pretrained
from support.tiny_families import chat_tokenizer, save_bert, tiny_perank


@pytest.fixture(scope="module")
def model() -> PERank:
    return tiny_perank()


@pytest.fixture(scope="module")
def checkpoint(model: PERank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the authors' layout."""
    folder = tmp_path_factory.mktemp("published")
    encoder = Encoder(str(save_bert(folder / "encoder", positions=512)))
    write_authors_checkpoint(folder / "checkpoint", model, PromptBuilder(chat_tokenizer(), "reference"), encoder)
    return folder / "checkpoint"


def loaded(source: str | Path, like: Projector) -> Projector:
    found = Projector(like.width_in, like.width_out)
    load_projector(found, source)
    return found


def is_that_of(found: Projector, model: PERank) -> bool:
    return all(
        torch.equal(value, model.projector.state_dict()[key].float()) for key, value in found.state_dict().items()
    )


def in_shards(checkpoint: Path, folder: Path) -> Path:
    """The same tensors in two files and an index, the projector in the second."""
    folder.mkdir()
    tensors = load_file(checkpoint / "model.safetensors")
    placed = {key: f"model-0000{1 + ('projector.' in key)}-of-00002.safetensors" for key in tensors}
    for file in set(placed.values()):
        save_file({key: value for key, value in tensors.items() if placed[key] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    return folder


def test_files_and_folders_give_the_same_projector(model: PERank, checkpoint: Path, tmp_path: Path) -> None:
    save_projector(model.projector, tmp_path / "projector.safetensors")
    (tmp_path / "other").mkdir()
    write_authors_projector(tmp_path / "other" / "projector.bin", model.projector)
    shards = in_shards(checkpoint, tmp_path / "shards")
    sources = [tmp_path / "projector.safetensors", tmp_path, tmp_path / "other" / "projector.bin", tmp_path / "other"]
    for source in [*sources, checkpoint, checkpoint / "model.safetensors", shards]:
        assert is_that_of(loaded(source, model.projector), model), source


def test_of_a_checkpoint_on_the_hub_only_the_shard_with_the_projector_is_fetched(
    model: PERank, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, fetched = in_shards(checkpoint, tmp_path / "hub"), list[str]()

    def download(name: str, file: str) -> str:
        fetched.append(file)
        return str(shards / file)

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, name: [p.name for p in shards.iterdir()])
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert is_that_of(loaded("liuqi6777/pe-rank-mistral-jina", model.projector), model)
    assert fetched == ["model.safetensors.index.json", "model-00002-of-00002.safetensors"]


def test_what_holds_no_projector_is_refused_by_name(
    model: PERank, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any) -> None:
        raise ConnectionError("no connection")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", offline)
    save_file({f"model.layers.{i}": torch.ones(1) for i in range(9)}, tmp_path / "llm.safetensors")
    (tmp_path / "empty").mkdir()
    cases = {
        str(tmp_path / "nowhere.safetensors"): "no such file",
        str(tmp_path / "llm.safetensors"): "no projector tensors found",
        str(tmp_path / "empty"): "in this folder",
        "someone/something": "no connection",
    }
    for source, said in cases.items():
        with pytest.raises(BadInput, match=said):
            loaded(source, model.projector)


def test_the_authors_checkpoint_ranks_by_its_folder_as_it_does_when_read(checkpoint: Path) -> None:
    found, read = from_pretrained(checkpoint, dtype="float32"), read_authors_checkpoint(checkpoint)
    assert not any(p.requires_grad for p in found.model.parameters())
    assert (found.window, found.step, found.prompts.version) == (20, 10, "reference")
    texts = ["a cat sleeps", "rain falls", "the sun", "bread and salt", "planets move"]
    order = Reranker.from_pretrained(checkpoint, dtype="float32").rank("cat", texts).order
    assert order == Reranker(read.model, read.prompts, read.encoder).rank("cat", texts).order
