"""monoBERT, the MiniLM cross-encoder and monoT5: equal to a plain loop over pairs on tiny models of their kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.baselines.cross_encoder import CrossEncoder
from perank.baselines.loading import CrossEncoderRanker, MonoT5Ranker
from perank.baselines.monot5 import MonoT5
from perank.baselines.pointwise import Pointwise
from perank.errors import BadInput
from perank.records import Candidates, Passage, Query, Ranker
from support import small_llms
from support.tiny_families import WORDS, chat_tokenizer


def save_bert(folder: Path, labels: int) -> Path:
    """A whole BertForSequenceClassification of 64 positions."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder.mkdir(exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *small_llms.tiny.WORDS]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=90, max_position_embeddings=64, initializer_range=0.5, num_labels=labels, **sizes)
    torch.manual_seed(labels)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def save_t5(folder: Path) -> Path:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = T5Config(vocab_size=len(chat_tokenizer()), decoder_start_token_id=0, initializer_factor=3.0, **sizes)
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pointwise")
    return {
        "MiniLM": save_bert(root / "minilm", 1),
        "monoBERT": save_bert(root / "monobert", 2),
        "monoT5": save_t5(root / "t5"),
    }


def ranker(name: str, folders: dict[str, Path], **options: Any) -> Pointwise:
    kind = MonoT5Ranker if name == "monoT5" else CrossEncoderRanker
    options.setdefault("max_length", 200 if name == "monoT5" else 64)
    made: Pointwise = kind(name=str(folders[name]), dtype="float32", device="cpu", **options).ranker
    made.scorer.model.double()  # type: ignore[attr-defined]
    return made


@torch.no_grad()
def by_hand(name: str, folder: Path, query: str, text: str) -> float:
    """One pair, alone, by transformers."""
    from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name != "monoT5":
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval().double()
        logits = model(**tokenizer(query, text, return_tensors="pt")).logits[0]
        return float(logits[0]) if name == "MiniLM" else float(logits.log_softmax(0)[1] - logits.log_softmax(0)[0])
    t5: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval().double()
    ids = [*tokenizer(f"Query: {query} Document: {text} Relevant:").input_ids, tokenizer.eos_token_id]
    logits = t5(input_ids=torch.tensor([ids]), decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, 0]
    true, false = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in ("true", "false"))
    return float(logits[true].exp() / (logits[true].exp() + logits[false].exp()))


NAMES = ["MiniLM", "monoBERT", "monoT5"]


@pytest.mark.parametrize("name", NAMES)
def test_rankings_are_those_of_one_pair_at_a_time(name: str, folders: dict[str, Path]) -> None:
    batch = [small_llms.candidates(n) for n in (7, 1, 0, 4)]
    rankings = ranker(name, folders, batch_tokens=90).rank_batch(batch)
    for found, ranking in zip(batch, rankings, strict=True):
        scores = [by_hand(name, folders[name], found.query.text, passage.text) for passage in found.passages]
        assert len(set(scores)) == len(scores)
        assert list(ranking.order) == sorted(range(len(scores)), key=lambda i: -scores[i])


@pytest.mark.parametrize("name", ["MiniLM", "monoBERT"])
def test_scores_are_those_of_one_pair_at_a_time(name: str, folders: dict[str, Path]) -> None:
    scorer = ranker(name, folders).scorer
    found = small_llms.candidates(6)
    pairs = [scorer.pair(found.query.text, passage.text) for passage in found.passages]
    alone = [by_hand(name, folders[name], found.query.text, passage.text) for passage in found.passages]
    assert scorer.scores(pairs) == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_whole_pairs_are_tokenised_by_one_call_and_as_one_at_a_time(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer: Any = ranker(name, folders).scorer
    texts = ["dogs", "", " the cat ", "[SEP] </s> [CLS]", "\ufdd0cat", "the cat sat on a mat " * 40]
    asked = [(query, text) for query in ("the cat", "dogs [SEP]") for text in texts]
    alone = [scorer.pair(*texts) for texts in asked]
    assert [pair.shortened for pair in alone] == 2 * [False, False, False, False, False, True]
    assert scorer.pairs(asked) == alone
    assert scorer.pairs([]) == []
    monkeypatch.setattr(scorer, "pair", lambda *_: pytest.fail("tokenised alone"))
    assert scorer.pairs([one for one in asked if 0 < len(one[1]) < 100]) == [
        pair for pair, (_, text) in zip(alone, asked, strict=True) if text and not pair.shortened
    ]


@settings(max_examples=8)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=4), st.sampled_from([None, 1, 100]))
def test_company_changes_nothing(folders: dict[str, Path], sizes: list[int], batch_tokens: int | None) -> None:
    batch = [small_llms.candidates(n, seed) for seed, n in enumerate(sizes)]
    for name in NAMES:
        together = ranker(name, folders, batch_tokens=batch_tokens).rank_batch(batch)
        alone = [ranker(name, folders).rank_batch([found])[0] for found in batch]
        assert [found.order for found in together] == [found.order for found in alone]


@pytest.mark.parametrize("name", NAMES)
def test_the_bill_counts_pairs_tokens_and_shortened_texts(name: str, folders: dict[str, Path]) -> None:
    long = Passage("long", " ".join(["the cat sat on a mat"] * 40))
    found = Candidates(Query("q", "the cat"), (long, Passage("short", "dogs")))
    made = ranker(name, folders)
    assert isinstance(made, Ranker)
    (ranking,) = made.rank_batch([found])
    length = made.scorer.max_length  # type: ignore[attr-defined]
    assert (ranking.bill.forwards, ranking.bill.texts_shortened) == (2, 1)
    assert length < ranking.bill.tokens_processed < length + 50
    assert ranking.bill.seconds > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_spells_special_tokens_stays_a_text(name: str, folders: dict[str, Path]) -> None:
    scorer: Any = ranker(name, folders).scorer
    ends = {scorer.tokenizer.sep_token_id, scorer.tokenizer.eos_token_id, scorer.tokenizer.cls_token_id} - {None}
    plain, odd = scorer.pair("the cat", "dogs"), scorer.pair("the cat", "[SEP] </s> [CLS]")
    assert sum(id in ends for id in odd.ids) == sum(id in ends for id in plain.ids)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_that_leaves_no_room_is_refused(name: str, folders: dict[str, Path]) -> None:
    found = small_llms.candidates(1)
    long = replace(found, query=Query("q", "the cat sat on a mat " * 40))
    with pytest.raises(BadInput, match="the query leaves no room"):
        ranker(name, folders).rank_batch([long])
    with pytest.raises(BadInput, match="id 'q': the query is empty"):
        ranker(name, folders).rank_batch([replace(found, query=Query("q", " "))])


def test_equal_texts_are_read_once_and_go_by_passage_id(folders: dict[str, Path]) -> None:
    found = Candidates(Query("q", "the cat"), tuple(Passage(id, "dogs") for id in "bca"))
    ranking = ranker("MiniLM", folders).rank_batch([found])[0]
    assert ranking.passage_ids == ["c", "b", "a"]
    alone = ranker("MiniLM", folders).rank_batch([found.top(1)])[0].bill
    assert (ranking.bill.forwards, ranking.bill.tokens_processed) == (1, alone.tokens_processed)


def test_a_classifier_without_its_head_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folders["MiniLM"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in state.items() if "classifier" not in k}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(BadInput, match=r"its weights lack classifier\.bias, classifier\.weight"):
        CrossEncoderRanker(name=str(tmp_path))


def test_weights_that_are_nowhere_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be loaded"):
        CrossEncoderRanker(name=str(tmp_path / "nowhere"))


def test_three_labels_and_too_many_tokens_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a classifier of 3 labels"):
        CrossEncoderRanker(name=str(save_bert(tmp_path / "three", 3)), max_length=64)
    with pytest.raises(BadInput, match="the model has positions for 64 tokens"):
        CrossEncoderRanker(name=str(folders["MiniLM"]), max_length=65)


def test_scores_that_are_not_finite_are_refused(folders: dict[str, Path]) -> None:
    made = ranker("MiniLM", folders)
    assert isinstance(made.scorer, CrossEncoder)
    made.scorer.model.classifier.bias.data[0] = torch.nan
    with pytest.raises(BadInput, match="id 'p0': the score is nan"):
        made.rank_batch([small_llms.candidates(1)])


def test_answers_that_begin_alike_are_refused(folders: dict[str, Path]) -> None:
    class Deaf:
        eos_token_id, unk_token_id = 2, 0

        def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
            return {"input_ids": [7]}

    with pytest.raises(BadInput, match="begin with the same token"):
        MonoT5(torch.nn.Linear(1, 1), Deaf())
