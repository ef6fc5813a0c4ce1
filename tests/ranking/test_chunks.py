"""Passages longer than the encoder reads: counted, said once, and ranked by their best chunk if that is wanted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from perank import Reranker
from perank.errors import BadInput
from perank.ranking.chunks import chunk_passages
from perank.ranking.windows import Windows
from perank.records import Candidates, Passage
from perank.retrieval.encoding import StoreOptions, encode_into
from support import tiny

LONG = Passage("long", " ".join(tiny.WORDS * 2), title="sea")
BATCH = [Candidates(tiny.QUERY, (*tiny.PASSAGES, LONG)), tiny.FIVE]


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Any, ...]:
    return tiny.tiny_model(5, dtype=torch.float32), tiny.tiny_prompts(), tiny.tiny_encoder(tmp_path)


def test_bills_count_what_the_encoder_cuts_and_one_warning_names_the_number(
    parts: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    reranker = Reranker(*parts)
    assert [ranking.bill.texts_shortened for ranking in reranker.rank_batch(BATCH * 2)] == [1, 0, 1, 0]
    assert reranker.rank("sea", [LONG, LONG, "rain"]).bill.texts_shortened == 2
    assert [record.getMessage()[:17] for record in caplog.records] == ["1 of 6 passages o"]


def test_passages_from_a_store_are_counted_too(parts: tuple[Any, ...], caplog: pytest.LogCaptureFixture) -> None:
    texts = {passage.id: passage.contents for passage in BATCH[0].passages}
    caplog.set_level(logging.WARNING)
    store = encode_into(parts[2].name + "/store", texts, parts[2], StoreOptions(progress=False))
    assert "1 passages are longer than the encoder reads" in caplog.text
    assert Reranker(*parts, store=store).rank_batch(BATCH)[0].bill.texts_shortened == 1


def test_vectors_of_the_callers_own_are_not_counted(parts: tuple[Any, ...]) -> None:
    assert Reranker(*parts).rank("sea", [LONG], passage_embeddings=[[1.0] + [0.0] * 7]).bill.texts_shortened == 0


def test_pieces_hold_the_whole_text_in_as_many_tokens_as_asked_for(parts: tuple[Any, ...]) -> None:
    encoder = parts[2]
    pieces = encoder.pieces(LONG.text, 10)
    assert "".join(pieces) == LONG.text
    assert [len(piece.split()) for piece in pieces][:-1] == [10] * (len(pieces) - 1)
    assert (encoder.pieces("", 3), encoder.pieces(" a ", 3)) == ([""], [" a "])


@pytest.mark.parametrize("top_k", [None, 2])
def test_a_long_passage_has_the_rank_of_its_best_chunk(parts: tuple[Any, ...], top_k: int | None) -> None:
    plain, chunked = (Reranker(*parts, windows=Windows(4, 2), chunk=chunk) for chunk in (None, 10))
    whole = BATCH[0]
    chunks = [chunk for pieces in chunk_passages(whole.passages, parts[2], 10) for chunk in pieces]
    assert len(chunks) > len(whole.passages)
    ranked = [passage.id.partition("#")[0] for passage in plain.rank(tiny.QUERY, chunks).passages]
    found = chunked.rank(tiny.QUERY, whole.passages, top_k=top_k)
    assert found.passage_ids == list(dict.fromkeys(ranked))
    assert found.bill.texts_shortened == 0
    assert found.documents == found.passages


def test_short_passages_are_ranked_as_without_chunks(parts: tuple[Any, ...]) -> None:
    plain, chunked = Reranker(*parts), Reranker(*parts, chunk=20)
    assert [r.order for r in chunked.rank_batch([tiny.FIVE])] == [r.order for r in plain.rank_batch([tiny.FIVE])]


def test_chunks_are_stored_like_passages(parts: tuple[Any, ...]) -> None:
    chunks = [chunk for pieces in chunk_passages(BATCH[0].passages, parts[2], 10) for chunk in pieces]
    texts = {chunk.id: chunk.contents for chunk in chunks}
    options = StoreOptions(dtype="float32", progress=False)
    store = encode_into(parts[2].name + "/store", texts, parts[2], options)
    stored = Reranker(*parts, store=store, chunk=10).rank_batch(BATCH)
    assert [r.order for r in stored] == [r.order for r in Reranker(*parts, chunk=10).rank_batch(BATCH)]


@pytest.mark.parametrize("chunk", [0, -1, 2.5, "10", True])
def test_a_chunk_is_a_whole_number_of_tokens(parts: tuple[Any, ...], chunk: Any) -> None:
    with pytest.raises(BadInput, match="chunk is"):
        Reranker(*parts, chunk=chunk)


def test_chunks_need_an_encoder_that_splits(parts: tuple[Any, ...]) -> None:
    with pytest.raises(BadInput, match="no encoder that can split"):
        Reranker(*parts[:2], chunk=10).rank("sea", ["a"])
