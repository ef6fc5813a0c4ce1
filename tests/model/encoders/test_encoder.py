"""The encoder on tiny random BERTs, checked against plain one-by-one transformers calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder, _batches

WORDS = "query passage : the cat sat on a mat dogs ran far away [ ] sep cls".split()  # noqa: SIM905
TEXTS = [
    "the cat sat",
    "",
    "dogs ran far away on the mat the cat sat on a mat",
    "the cat sat",
    "mat",
    "unheard words",
    "a mat on a mat on a mat on a mat on a mat on a mat on a mat on a mat",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 400 positions and a WordPiece vocabulary of a few words."""
    from transformers import BertConfig, BertModel, BertTokenizer

    path = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (path / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=400, initializer_range=0.5, **sizes)
    BertModel(config).save_pretrained(path)
    return path


def encoder(folder: Path, **options: Any) -> Encoder:
    return Encoder(str(folder), **({"max_length": 400} | options))


@torch.inference_mode()
def hidden_of(folder: Path, text: str) -> Tensor:
    """Last hidden states [L, E] of one unpadded text, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True, max_length=400)
    return AutoModel.from_pretrained(folder, attn_implementation="eager").eval()(**ids).last_hidden_state[0]


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() < 1e-5)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", lambda hidden: hidden.mean(0)), ("cls", lambda hidden: hidden[0]), ("last", lambda hidden: hidden[-1])],
)
def test_vectors_are_those_of_one_unpadded_text_at_a_time(folder: Path, pooling: str, expected: Any) -> None:
    vectors = encoder(folder, pooling=pooling).encode_passages(TEXTS)
    assert vectors.dtype == torch.float32
    assert same(vectors, torch.stack([unit(expected(hidden_of(folder, text))) for text in TEXTS]))


@pytest.fixture(scope="module")
def one_encoder(folder: Path) -> Encoder:
    return encoder(folder)


@settings(deadline=None)  # a busy machine is no failure
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8), budget=st.sampled_from([1, 50, 10_000]))
def test_order_company_and_batch_size_change_no_vector(one_encoder: Encoder, lengths: list[int], budget: int) -> None:
    texts = [" ".join(WORDS[(i + length) % len(WORDS)] for i in range(length)) for length in lengths]
    alone = torch.cat([one_encoder.encode_passages([text]) for text in texts])
    one_encoder.batch_tokens = budget
    assert (one_encoder.encode_passages(texts) - alone).abs().max() < 1e-6


@settings(deadline=None)
@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 4000))
def test_batches_hold_every_text_once_longest_first_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = _batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or lengths[batch[0]] * len(batch) <= budget for batch in batches)


def test_prefixes_stand_before_the_texts_they_are_meant_for(folder: Path) -> None:
    plain, prefixed = encoder(folder), encoder(folder, query_prefix="query : ", passage_prefix="passage : ")
    assert same(prefixed.encode_queries(["the cat"]), plain.encode_queries(["query : the cat"]))
    assert same(prefixed.encode_passages(["the cat"]), plain.encode_passages(["passage : the cat"]))
    assert not same(prefixed.encode_passages(["the cat"]), plain.encode_passages(["the cat"]))


@pytest.mark.parametrize(
    "change",
    [
        {"query_prefix": "query : "},
        {"passage_prefix": "passage : "},
        {"pooling": "cls"},
        {"max_length": 30},
        {"revision": "v2"},
        {"name": "another"},
    ],
    ids=str,
)
def test_what_changes_vectors_changes_the_identity(change: dict[str, Any]) -> None:
    assert Encoder(**({"name": "one"} | change)).identity != Encoder(name="one").identity


def test_what_changes_no_vector_keeps_the_identity() -> None:
    assert Encoder(name="one", batch_tokens=7).identity == Encoder(name="one").identity


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_an_empty_query_is_refused_with_its_position(folder: Path, text: str) -> None:
    with pytest.raises(BadInput, match="number 1 is empty"):
        encoder(folder, query_prefix="query : ").encode_queries(["the cat", text])


def test_an_empty_passage_gets_a_vector_like_any_other(folder: Path) -> None:
    vectors = encoder(folder).encode_passages(["", "the cat"])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))
    assert same(vectors[0], unit(hidden_of(folder, "").mean(0)))


def test_no_texts_give_no_vectors(folder: Path) -> None:
    assert encoder(folder).encode_passages([]).shape == (0, 32)


def test_texts_are_cut_at_max_length_with_special_tokens_counted(folder: Path) -> None:
    short = encoder(folder, max_length=5)
    assert same(short.encode_passages(["the cat sat on a mat"]), encoder(folder).encode_passages(["the cat sat"]))


def test_a_text_cannot_say_a_special_token(folder: Path) -> None:
    assert encoder(folder).tokenizer("[SEP]")["input_ids"] == encoder(folder).tokenizer("[ sep ]")["input_ids"]


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(folder: Path, device: str) -> None:
    with pytest.raises(BadInput, match=device):
        Encoder(str(folder), device=device)


def test_half_precision_finds_the_last_token_of_long_texts(folder: Path) -> None:
    """301 tokens counted in bf16 would be 300 or 302."""
    text = " ".join(["cat"] * 299)
    full, half = encoder(folder, pooling="last"), encoder(folder, pooling="last", dtype="bfloat16")
    assert (full.encode_passages([text]) @ half.encode_passages([text]).T).item() > 0.99


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pooling": "best"}, "pooling"),
        ({"dtype": "fp32"}, "dtype"),
        ({"dtype": "int64"}, "dtype"),
        ({"max_length": 2}, "no room"),
        ({"max_length": -1}, "no room"),
        ({"max_length": 401}, "3 to 400"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(folder: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        encoder(folder, **options).encode_passages(["the cat"])


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    for file in folder.glob("*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_plain_bert_with_a_missing_weight_is_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"missing: encoder\.layer\.1\.output\.dense\.weight"):
        encoder(copy).encode_passages(["the cat"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"model_type": "unheard"}', b'{"model_type": 3}'])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_broken_files_are_refused_with_the_folders_name(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    with pytest.raises(BadInput, match=str(copy)):
        encoder(copy).encode_passages(["the cat"])


def test_sizes_that_do_not_fit_the_weights_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text()) | {"intermediate_size": 40}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=str(copy)):
        encoder(copy).encode_passages(["the cat"])


def test_a_folder_without_a_vocabulary_is_refused(copy: Path) -> None:
    """transformers makes up a tokenizer that knows no word, so that every text gets the same vector."""
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(BadInput, match="tokenizer"):
        encoder(copy).encode_passages(["the cat"])


def test_a_tokenizer_of_a_larger_model_is_refused(copy: Path) -> None:
    from transformers import BertTokenizer

    words = [f"w{i}" for i in range(100)]
    (copy / "large.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(copy / "large.txt")).save_pretrained(copy)
    with pytest.raises(BadInput, match="105 tokens"):
        encoder(copy).encode_passages(["the cat"])


def test_a_name_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        encoder(tmp_path / "nowhere").encode_passages(["the cat"])
