"""The baseline that speed is measured against ranks as Algorithm 1 does, at the authors' price."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.model.anchors import AnchorSettings
from perank.model.encoders.encoder import Encoder
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Candidates, Passage
from support import tiny

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from authors import AuthorsProcedure

WORDS = tiny.WORDS[:30]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny.tiny_encoder(tmp_path_factory.mktemp("encoder"))


def candidates(n: int) -> Candidates:
    texts = [" ".join(WORDS[(i * k) % 30] for k in range(1, 4 + i % 5)) for i in range(1, n + 1)]
    return Candidates(tiny.QUERY, tuple(Passage(f"p{i}", text) for i, text in enumerate(texts)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [8, 12, 13, 5])
def test_it_gives_the_rankings_of_algorithm_1(encoder: Encoder, n: int, tied: bool) -> None:
    model = tiny.tiny_model(3, tie_word_embeddings=tied)
    prompts, windows = tiny.tiny_prompts(), Windows(8, 4)
    asked = candidates(n)
    plain = Reranker(model, prompts, encoder, windows=windows, decoder="constrained").rank_batch([asked])[0]
    theirs = AuthorsProcedure(model, prompts, encoder, windows=windows).rank_batch([asked])[0]
    assert theirs.order == plain.order
    assert model.llm.get_input_embeddings().weight.shape[0] == len(prompts.tokenizer)


def test_its_bill_is_the_authors(encoder: Encoder) -> None:
    bill = AuthorsProcedure(tiny.tiny_model(), tiny.tiny_prompts(), encoder).rank_batch([candidates(100)])[0].bill
    assert (bill.forwards, bill.tokens_generated) == (189, 180)
    assert min(bill.seconds_encode, bill.seconds_prefill, bill.seconds_decode) > 0


def test_models_that_read_the_querys_vector_are_ranked_with_too(encoder: Encoder) -> None:
    model, prompts, asked = tiny.tiny_model(5), tiny.tiny_prompts(query_slot=True), candidates(9)
    plain = Reranker(model, prompts, encoder, decoder="constrained").rank_batch([asked])[0]
    assert AuthorsProcedure(model, prompts, encoder).rank_batch([asked])[0].order == plain.order


def test_a_model_with_anchors_is_refused(encoder: Encoder) -> None:
    with pytest.raises(BadInput, match="anchors"):
        AuthorsProcedure(tiny.tiny_model(anchors=AnchorSettings(cosine=1.0)), tiny.tiny_prompts(), encoder)
