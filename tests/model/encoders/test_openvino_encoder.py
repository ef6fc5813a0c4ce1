"""The encoder in int8 by OpenVINO: near torch's vectors, with an identity of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from perank.errors import BadInput
from perank.model.encoders import openvino_encoder
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.openvino_encoder import OpenVinoEncoder
from perank.records import differences

TEXTS = ["the cat sat", "dogs ran far away on the mat the cat sat on a mat", "mat", "a mat on a mat on a mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of width 64."""
    from transformers import BertConfig, BertModel, BertTokenizer

    path = tmp_path_factory.mktemp("bert")
    words = sorted({word for text in TEXTS for word in text.split()})
    (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertModel(BertConfig(vocab_size=5 + len(words), max_position_embeddings=64, **sizes)).save_pretrained(path)
    return path


def test_its_identity_differs_from_torchs_and_it_takes_an_encoders_settings(folder: Path) -> None:
    torchs = Encoder(str(folder), max_length=32, pooling="cls", query_prefix="q ", dtype="bfloat16")
    ours = OpenVinoEncoder.of(torchs)
    assert (ours.name, ours.max_length, ours.pooling, ours.query_prefix) == (str(folder), 32, "cls", "q ")
    assert differences(torchs.identity, ours.identity) == ["runtime"]
    assert ours.identity["dtype"] == "int8"


def test_other_types_are_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="quantises float32 weights on the CPU, found bfloat16"):
        OpenVinoEncoder(str(folder), dtype="bfloat16")


def test_without_openvino_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BadInput, match="OpenVINO is not installed") as refused:
        OpenVinoEncoder(str(folder), max_length=32).encode_passages(TEXTS)
    assert "perank[openvino]" in str(refused.value)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_are_torchs_up_to_int8_in_any_batch(folder: Path, pooling: str) -> None:
    pytest.importorskip("openvino", reason="pip install 'perank[openvino]'")
    options: dict[str, Any] = {"max_length": 32, "pooling": pooling}
    expected_BE = Encoder(str(folder), **options).encode_passages(TEXTS)
    ours_BE = OpenVinoEncoder(str(folder), **options).encode_passages(TEXTS)
    assert (ours_BE * expected_BE).sum(1).min() > 0.98
    assert not torch.equal(ours_BE, expected_BE)  # int8 rounds


def test_a_network_that_does_not_reproduce_the_model_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="pip install 'perank[openvino]'")
    monkeypatch.setattr(openvino_encoder.Compiled, "agreement", lambda self, model: 0.5)
    with pytest.raises(BadInput, match=r"cosine of 0\.50 with those of BertModel"):
        OpenVinoEncoder(str(folder), max_length=32).encode_passages(TEXTS)
