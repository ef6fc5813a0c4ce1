"""Cross-encoders of several families, at their longest pairs and with tokenizers that invent segments."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perank.baselines.loading import CrossEncoderRanker
from perank.errors import BadInput
from perank.records import Candidates, Passage
from support import tiny
from support.published_encoders import FAMILIES, READ, save_family

LONG = Candidates(tiny.QUERY, (*tiny.PASSAGES, Passage("long", " ".join(tiny.WORDS * 3))))


@torch.no_grad()
def by_hand(folder: Path, query: str, text: str) -> float:
    """The score of one pair, by transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(query, text, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    return float(AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits[0, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_read_up_to_the_last_position(family: str, tmp_path: Path) -> None:
    folder = save_family(tmp_path, family, labels=1)
    ranker = CrossEncoderRanker(name=str(folder), dtype="float32", device="cpu", max_length=READ[family])
    (ranking,) = ranker.rank_batch([LONG])
    assert ranking.bill.texts_shortened == 1
    scores = {passage.id: by_hand(folder, tiny.QUERY.text, passage.contents) for passage in tiny.PASSAGES}
    assert [id for id in ranking.passage_ids if id != "long"] == sorted(scores, key=scores.__getitem__, reverse=True)
    with pytest.raises(BadInput, match=f"positions for {READ[family]} tokens"):
        CrossEncoderRanker(name=str(folder), dtype="float32", device="cpu", max_length=READ[family] + 1)
