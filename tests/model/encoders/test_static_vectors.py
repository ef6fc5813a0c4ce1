"""Static vectors: a text is the mean of its tokens' rows, by the table and tokenizer that a package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.static_vectors import CONFIG, StaticVectors, is_static, static_folder
from support import tiny


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What the package looks like: weights/ with one table, tokenizers/ with one tokenizer that begins with <s>."""
    from safetensors.torch import save_file

    tokenizer = tiny.tiny_tokenizer(bert=True)
    for name in ("weights", "tokenizers"):
        (tmp_path / name).mkdir()
    table_VE = torch.randn(len(tokenizer), 6, generator=torch.Generator().manual_seed(0)).half()
    save_file({"embedding.weight": table_VE}, tmp_path / "weights" / "small.safetensors")
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizers" / "small.json"))
    return tmp_path


def test_a_text_is_the_mean_of_its_own_tokens_rows_at_unit_length(package: Path) -> None:
    folder = static_folder(package)
    assert folder is not None
    assert is_static(folder)
    encoder = Encoder(str(folder), max_length=5)
    table_VE = StaticVectors.from_folder(folder, torch.float64).embedding.weight.numpy()
    found = encoder.encode_passages(["a sea otter", "rain", "the rain falls on the plains and the sun"]).numpy()
    vocabulary = tiny.tiny_tokenizer().get_vocab()
    for vector, words in zip(found, ["a sea otter", "rain", "the rain falls on the"], strict=True):
        mean = table_VE[[vocabulary[word] for word in words.split()]].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert (encoder.width, encoder.identity["name"]) == (6, str(folder))


def test_the_folder_is_made_once_and_a_package_without_a_table_gives_none(package: Path, tmp_path: Path) -> None:
    folder = static_folder(package)
    assert folder is not None
    before = (folder / CONFIG).stat().st_mtime_ns
    assert static_folder(package) == folder
    assert (folder / CONFIG).stat().st_mtime_ns == before
    assert static_folder(tmp_path / "tokenizers") is None


def test_a_table_of_another_shape_is_refused(package: Path) -> None:
    folder = static_folder(package)
    assert folder is not None
    (folder / CONFIG).write_text('{"shape": [3, 6]}')
    with pytest.raises(BadInput, match="expected a table"):
        StaticVectors.from_folder(folder, torch.float32)


def test_special_tokens_in_a_text_stay_text(package: Path) -> None:
    encoder = Encoder(str(static_folder(package)), max_length=8)
    assert 2 not in encoder.tokenizer("cats</s>")["input_ids"]


@pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="wordllama isn't installed")
def test_wordllamas_vectors_know_what_is_alike() -> None:
    encoder = Encoder("pypi:wordllama", max_length=512)
    cat, kitten, bond = encoder.encode_passages(["a cat sleeps", "kittens are sleeping", "the bond market fell"])
    assert encoder.width == 256
    assert float(cat @ kitten) > float(cat @ bond) + 0.2


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_a_text_without_any_token_has_the_unknown_tokens_vector(package: Path, text: str) -> None:
    encoder = Encoder(str(static_folder(package)), max_length=8)
    vectors = encoder.encode_passages(["rain", text, "zebra"])
    assert torch.equal(vectors[1], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])
    assert float(vectors[1].norm()) == pytest.approx(1)
