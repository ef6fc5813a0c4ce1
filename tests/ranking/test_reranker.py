"""`Reranker`: texts, vectors or a store in, the ranking of Algorithm 1 over sliding windows out."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank import Reranker
from perank.errors import BadInput
from perank.model.anchors import AnchorSettings
from perank.model.batches import PromptBatch
from perank.model.pe_rank import PERank
from perank.ranking.decoder import WindowBatch
from perank.ranking.speculative import Speculative
from perank.ranking.windows import Windows, batches
from perank.records import Candidates, Passage, Query, Ranker
from perank.saving import hub
from support import tiny
from support.brute_force import brute_force
from support.sliding import slide

WORDS = tiny.WORDS


class WordEncoder:
    """Unit vectors that depend on the text alone; counts what it is asked for."""

    def __init__(self) -> None:
        self.passages: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
        self.passages += texts
        return torch.stack([self.vector(text) for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.stack([self.vector("query " + text) for text in texts])

    @staticmethod
    def vector(text: str) -> torch.Tensor:
        return tiny.unit_vectors(8, seed=sum(i * ord(c) for i, c in enumerate(text, 1)))


@pytest.fixture(scope="module")
def model() -> PERank:
    return tiny.tiny_model(5)


def candidates(n: int, name: str = "q") -> Candidates:
    """n passages of two words, the same for every call."""
    texts = [f"{WORDS[i % 41]} {WORDS[(7 * i + len(name)) % 43]} {i}" for i in range(n)]
    return Candidates(
        Query(name, " ".join(WORDS[: 2 + n % 5])), tuple(Passage(f"{name}{i}", t) for i, t in enumerate(texts))
    )


def made(model: PERank, windows: Windows = Windows(5, 2), **options: Any) -> Reranker:  # noqa: B008 - it is frozen
    return Reranker(model, tiny.tiny_prompts(), WordEncoder(), windows=windows, **options)


def by_hand(model: PERank, given: Candidates, windows: Windows) -> list[int]:
    """Sliding windows over Algorithm 1 without a cache, one query at a time."""
    vectors_NE = torch.stack([WordEncoder.vector(p.contents) for p in given.passages] or [torch.zeros(8)]).double()

    def rank(shown: Sequence[int], depth: int) -> Sequence[int]:
        prompt = PromptBatch.of([tiny.tiny_prompts().rank(given.query.text, len(shown))])
        mask_BN = torch.ones(1, len(shown), dtype=torch.bool)
        return brute_force(model, WindowBatch(prompt, vectors_NE[list(shown)][None], mask_BN, depth))[0][0]

    return slide(windows.plan(len(given)), len(given), rank)


@pytest.mark.parametrize("decoder", ["constrained", "speculative"])
@pytest.mark.parametrize("cutoff", [None, 3])
def test_it_is_algorithm_1_over_sliding_windows(model: PERank, decoder: str, cutoff: int | None) -> None:
    batch = [candidates(n, f"q{n}") for n in (0, 1, 2, 4, 5, 6, 9, 12)]
    windows = Windows(5, 2, cutoff)
    rankings = made(model, windows, decoder=decoder).rank_batch(batch)
    assert [list(ranking.order) for ranking in rankings] == [by_hand(model, c, windows) for c in batch]
    assert [ranking.candidates for ranking in rankings] == batch


@given(sizes=st.lists(st.integers(0, 9), max_size=4), tokens=st.sampled_from([1, 60, 10_000]))
@settings(max_examples=15, deadline=None)
def test_rankings_depend_neither_on_company_nor_on_the_memory_bound(
    model: PERank, sizes: list[int], tokens: int
) -> None:
    batch = [candidates(n, f"q{n}") for n in sizes]
    alone = [made(model, decoder=Speculative(nodes=4)).rank_batch([one])[0] for one in batch]
    together = made(model, decoder=Speculative(nodes=4), batch_tokens=tokens).rank_batch(batch)
    assert [r.order for r in together] == [r.order for r in alone]
    for one, other in zip(together, alone, strict=True):
        assert (one.bill.forwards, one.bill.tokens_processed) == (other.bill.forwards, other.bill.tokens_processed)


def test_vectors_alone_a_store_or_texts_give_the_same_ranking(model: PERank) -> None:
    given = candidates(12)
    vectors_NE = torch.stack([WordEncoder.vector(p.contents) for p in given.passages])

    class Store:
        def get(self, ids: Sequence[str]) -> np.ndarray:
            return np.stack([vectors_NE[int(id.removeprefix("q"))].numpy() for id in ids])

    expected = made(model).rank_batch([given])[0].order
    query, texts = given.query.text, [p.text for p in given.passages]
    without_encoder = Reranker(model, tiny.tiny_prompts(), windows=Windows(5, 2))
    assert made(model).rank(query, texts).order == expected
    for vectors in (vectors_NE, vectors_NE.numpy(), vectors_NE.tolist()):
        assert without_encoder.rank(query, passage_embeddings=vectors).order == expected
    assert without_encoder.rank(query, texts, passage_embeddings=vectors_NE).order == expected
    stored = Reranker(model, tiny.tiny_prompts(), windows=Windows(5, 2), store=Store())
    assert stored.rank_batch([given])[0].order == expected


def test_texts_and_passages_keep_their_names(model: PERank) -> None:
    ranking = made(model).rank("sea otter", ["a", Passage("mine", "b"), "c"])
    assert sorted(ranking.passage_ids) == ["0", "2", "mine"]
    assert ranking.candidates.query.text == "sea otter"


def test_every_passage_is_encoded_once_however_many_windows_it_passes(model: PERank) -> None:
    reranker, given = made(model, Windows(4, 1)), candidates(12)
    reranker.rank_batch([given])
    assert sorted(reranker.encoder.passages) == sorted(p.contents for p in given.passages)


def test_top_k_is_the_top_of_the_full_ranking_for_fewer_forwards(model: PERank) -> None:
    reranker, given = made(model, decoder="constrained"), candidates(14)
    full, top = reranker.rank_batch([given])[0], reranker.rank(given.query.text, given.passages, top_k=2)
    assert top.order[:2] == full.order[:2]
    assert (full.bill.forwards, top.bill.forwards) == (5 * 4 + 3, 5 * 3 + 2)  # windows of 5, at the top one of 4
    assert (full.bill.tokens_generated, top.bill.tokens_generated) == (5 * 5 + 4, 5 * 3 + 2)


def test_the_bill_adds_up_what_each_window_costs_alone(model: PERank) -> None:
    given, prompts = candidates(12), tiny.tiny_prompts()
    bill = made(model, decoder="constrained").rank_batch([given, candidates(7)])[0].bill
    spans = Windows(5, 2).plan(12)
    prompt_tokens = sum(len(prompts.rank(given.query.text, span.stop - span.start)) for span in spans)
    sizes = [span.stop - span.start for span in spans]
    assert bill.forwards == sum(n - 1 for n in sizes)
    assert bill.tokens_generated == sum(sizes)
    assert bill.tokens_processed == prompt_tokens + sum(n - 2 for n in sizes)
    assert min(bill.seconds_encode, bill.seconds_prefill, bill.seconds_decode) > 0


@pytest.mark.parametrize("extension", ["query_slot", "last", "cosine"])
def test_extensions_read_the_querys_vector_from_the_encoder_or_the_user(extension: str) -> None:
    model = tiny.tiny_model(5, anchors=AnchorSettings(cosine=30.0) if extension == "cosine" else None)
    prompts = tiny.tiny_prompts(query_slot={"query_slot": True, "last": "last", "cosine": False}[extension])
    given = candidates(6)
    vectors = made(model).encoder.encode_passages([p.contents for p in given.passages])
    text = given.query.text
    with_encoder = Reranker(model, prompts, WordEncoder())
    without = Reranker(model, prompts)
    own, others = WordEncoder.vector("query " + text), [WordEncoder.vector(word) for word in WORDS]
    expected = with_encoder.rank(text, given.passages).order
    assert without.rank(text, passage_embeddings=vectors, query_embedding=own).order == expected
    orders = {without.rank(text, passage_embeddings=vectors, query_embedding=other).order for other in others}
    assert len(orders) > 1
    with pytest.raises(BadInput, match="query's vector"):
        without.rank(text, passage_embeddings=vectors)


def _spoiled(position: int, value: float) -> torch.Tensor:
    vectors_NE = tiny.unit_vectors(4, 8)
    vectors_NE[position] = value
    return vectors_NE


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (_spoiled(2, float("nan")), r"number 2 \(from 0\) is not finite"),
        (_spoiled(1, float("inf")), r"number 1 \(from 0\) is not finite"),
        (_spoiled(3, 5.0), r"number 3 \(from 0\) has length 14.14, expected 1"),
        (_spoiled(0, 0.0), r"number 0 \(from 0\) has length 0, expected 1"),
        (tiny.unit_vectors(4, 9), r"\[4, 9\], expected \[N, 8\]"),
        (tiny.unit_vectors(8), r"\[8\], expected \[N, 8\]"),
        (tiny.unit_vectors(3, 8), "3 passage vectors for 4"),
        ([[1.0], [1.0, 2.0]], "no \\[N, 8\\] array"),
    ],
)
def test_vectors_it_cannot_use_are_named(model: PERank, vectors: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Reranker(model, tiny.tiny_prompts()).rank("sea", ["a", "b", "c", "d"], passage_embeddings=vectors)


def test_what_is_missing_is_said(model: PERank, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with pytest.raises(BadInput, match="nothing to rank"):
        made(model).rank("sea")
    with pytest.raises(BadInput, match="the query is empty"):
        made(model).rank(" ", ["a"])
    with pytest.raises(BadInput, match="no encoder and no vectors"):
        Reranker(model, tiny.tiny_prompts()).rank("sea", ["a"])
    with pytest.raises(BadInput, match="cutoff of 0"):
        made(model).rank("sea", ["a"], top_k=0)
    with pytest.raises(BadInput, match="unknown decoder"):
        made(model, decoder="guess")
    monkeypatch.setattr(hub, "BOX", tmp_path)
    with pytest.raises(BadInput, match="includes no model"):
        Reranker()


def test_an_encoder_of_another_width_is_refused(model: PERank) -> None:
    class Wide(WordEncoder):
        def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
            return tiny.unit_vectors(len(texts), 9)

    with pytest.raises(BadInput, match="width 9, the model takes 8"):
        Reranker(model, tiny.tiny_prompts(), Wide()).rank("sea", ["a", "b"])


def test_a_store_of_another_encoder_is_refused(model: PERank, tmp_path: Any) -> None:
    encoder = tiny.tiny_encoder(tmp_path)
    store = SimpleNamespace(identity={**encoder.identity, "pooling": "cls"})
    with pytest.raises(BadInput, match="pooling: 'cls' there, 'mean' here"):
        Reranker(model, tiny.tiny_prompts(), encoder, store=store)  # type: ignore[arg-type]
    Reranker(model, tiny.tiny_prompts(), encoder, store=SimpleNamespace(identity=encoder.identity))  # type: ignore[arg-type]


def test_nothing_to_rank_is_an_empty_ranking(model: PERank) -> None:
    assert made(model).rank("sea", []).order == ()
    assert made(model).rank("sea", passage_embeddings=[]).order == ()
    assert made(model).rank_batch([]) == []
    assert made(model).rank("sea", ["a"]).order == (0,)


def test_a_model_in_training_goes_on_as_it_was(model: PERank) -> None:
    training = tiny.tiny_model(5).train()
    training.projector.eval()
    assert made(training).rank_batch([candidates(6)])[0].order == made(model).rank_batch([candidates(6)])[0].order
    with pytest.raises(BadInput):
        made(training).rank("sea", ["a", "b"], passage_embeddings=[[1.0]])
    assert training.training and training.llm.training and not training.projector.training


def test_it_keeps_the_protocol_and_works_with_a_real_encoder(tmp_path: Any) -> None:
    model = tiny.tiny_model(5, dtype=torch.bfloat16)
    reranker = Reranker(model, tiny.tiny_prompts(), tiny.tiny_encoder(tmp_path))
    assert isinstance(reranker, Ranker)
    assert sorted(reranker.rank_batch([tiny.FIVE])[0].order) == list(range(5))


@given(costs=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), max_size=20), budget=st.integers(1, 300))
def test_batches_hold_everything_once_within_the_budget(costs: list[tuple[int, int]], budget: int) -> None:
    groups = batches(costs, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(costs)))
    for group in groups:
        size = len(group) * max(costs[i][0] + costs[i][1] for i in group)
        assert size <= budget or len(group) == 1
