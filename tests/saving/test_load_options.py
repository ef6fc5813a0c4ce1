"""Loading in the words of other libraries; what can't be is refused before any weights are read."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from perank import Reranker
from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.ranking.windows import Windows
from perank.saving.hub import save_pretrained
from perank.saving.load_options import split_options
from perank.saving.saved_text_ranker import load_text_ranker
from support import tiny

PASSAGES = ["a sea otter", "the rain falls", "bread"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("home")
    tiny.tiny_llm(3).save_pretrained(root / "llm")
    tiny.tiny_tokenizer().save_pretrained(root / "llm")
    model = tiny.tiny_model(3, dtype=torch.float32)
    parts = {"prompts": tiny.tiny_prompts(), "encoder": tiny.tiny_encoder(root / "encoder")}
    return save_pretrained(root / "saved", model, llm=LLMSettings(name=str(root / "llm")), whole_llm=False, **parts)


@pytest.mark.parametrize(
    "options",
    [
        {"trust_remote_code": True},
        {"torch_dtype": torch.float32},
        {"dtype": torch.float32},
        {"dtype": "torch.float32"},
        {"dtype": None},
        {"torch_dtype": "auto"},
        {"device_map": "auto" if not torch.cuda.is_available() else "cpu"},
        {"device_map": {"": "cpu"}},
        {"device": torch.device("cpu")},
        {"device": None},
        {"local_files_only": True, "token": "secret", "cache_dir": "somewhere", "force_download": False},
        {"attn_implementation": "eager"},
        {"windows": Windows(2, 1), "decoder": "constrained", "batch_tokens": 100},
    ],
    ids=str,
)
def test_options_of_other_libraries_are_understood(folder: Path, options: dict[str, Any]) -> None:
    expected = Reranker.from_pretrained(folder, dtype="float32").rank("sea", PASSAGES).order
    plain = {} if "torch_dtype" in options else {"dtype": "float32"}
    found = Reranker.from_pretrained(folder, **plain | options)
    assert sorted(found.rank("sea", PASSAGES).order) == [0, 1, 2]
    assert "windows" in options or found.rank("sea", PASSAGES).order == expected
    assert found.encoder.trust_remote_code is options.get("trust_remote_code", False)
    assert found.encoder.hub.get("token") == options.get("token")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"colour": 1}, "id 'colour': no such option"),
        ({"torch_dtpye": "auto"}, "choose among torch_dtype"),
        ({"dtype": torch.int8}, "unknown dtype 'int8'"),
        ({"dtype": 32}, "unknown dtype 32"),
        ({"dtype": "float32", "torch_dtype": "float32"}, "id 'dtype': given as torch_dtype too"),
        ({"device": "cpu", "device_map": "cpu"}, "id 'device': given as device_map too"),
        ({"device_map": {"model.layers.0": "cpu", "model.layers.1": "cpu"}}, "a map of 2 parts"),
        ({"device": True}, "unknown device True"),
        ({"device": 99}, "cuda:99"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
        ({"attn_implementation": "flash_attention_2"}, "takes no mask of its own"),
        ({"trust_remote_code": "yes"}, "id 'trust_remote_code': expected true or false"),
        ({"revision": 3}, "id 'revision': expected a text"),
        ({"decoder": "fast"}, "unknown decoder 'fast'"),
        ({"windows": 20}, "windows is 20"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"share_prefix": "yes"}, "share_prefix is 'yes'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    folder: Path, options: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LLMSettings, "load", lambda self: pytest.fail("weights were loaded"))
    with pytest.raises(BadInput, match=named):
        Reranker.from_pretrained(folder, **options)


def test_a_home_and_paths_are_understood_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in ("~/saved", Path("~/saved"), folder):
        assert Reranker.from_pretrained(name).rank("sea", PASSAGES).order
    for encoder in ("~/encoder", folder.parent / "encoder"):
        assert Encoder(encoder, max_length=32).encode_passages(PASSAGES).shape == (3, 8)  # type: ignore[arg-type]
    for llm in ("~/llm", folder.parent / "llm"):
        assert LLMSettings(name=llm).config().num_hidden_layers == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        (5, "found 5"),
        ("", "found ''"),
        (" ", "found ' '"),
        ("./nowhere", "no such folder"),
        ("/no/where", "no such folder"),
        ("~nobody-of-this-name/model", "no home folder"),
    ],
)  # fmt: skip
def test_names_that_are_none_are_refused(name: Any, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        Reranker.from_pretrained(name)


def test_a_file_in_the_place_of_a_folder_is_refused_as_one(folder: Path) -> None:
    with pytest.raises(BadInput, match="expected the folder of a model, found a file"):
        Reranker.from_pretrained(folder / "config.json")


def test_the_folder_of_a_training_run_is_refused_with_that_of_its_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(folder)
    for load in (Reranker.from_pretrained, load_text_ranker):
        with pytest.raises(BadInput, match=rf"a training run's folder.*\(name {tmp_path}/model\)") as refused:
            load(tmp_path)
        assert refused.value.path == tmp_path


@pytest.mark.parametrize("place", ["a file", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written_is_refused_with_its_variable(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("wordllama isn't installed")
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("PERANK_CACHE", place if place.startswith(os.sep) else str(tmp_path / place))
    with pytest.raises(BadInput, match="PERANK_CACHE"):
        Encoder("pypi:wordllama").encode_passages(["sea"])


def test_options_are_split_into_those_of_loading_and_others() -> None:
    how, rest = split_options({"torch_dtype": torch.bfloat16, "token": "x", "store": 1, "cache_dir": None}, ["store"])
    assert (how.dtype, dict(how.hub), rest) == ("bfloat16", {"token": "x"}, {"store": 1})
