"""The parts of preparation on a synthetic corpus, as pairs of functions: before and after."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from pydoc_data.topics import topics
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import preparation_before as before
import torch
from torch import Tensor

from perank.baselines.cross_encoder import CrossEncoder
from perank.model.encoders.encoder import Encoder
from perank.model.prompts import PromptBuilder
from perank.records import Candidates, Passage, Query
from perank.retrieval.dense import Dense
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.retrieval.store import EmbeddingStore
from perank.sources.candidates import passages_by_id
from perank.sources.irds import _Passages

Two = tuple[Callable[[], Any], Callable[[], Any]]
_WORDS = sorted({word for text in topics.values() for word in text.split() if word.isalpha()})


class Doc(NamedTuple):
    """A document of ir_datasets."""

    doc_id: str
    text: str


class Corpus:
    """`passages` synthetic passages in a document store of ir_datasets, and their vectors in an `EmbeddingStore`."""

    width = 32

    def __init__(self, folder: Path, passages: int) -> None:
        self.folder, self.passages = folder, passages

    def text(self, number: int, words: int = 60) -> str:
        """The text of a passage, or the first words of it."""
        return " ".join(random.Random(number).choices(_WORDS, k=words))

    def texts(self, count: int) -> list[str]:
        """The first texts."""
        return [self.text(number) for number in range(count)]

    def candidates(self, queries: int, each: int) -> list[Candidates]:
        """Queries of six words with random passages."""
        dice = random.Random(0)
        found = []
        for number in range(queries):
            chosen = dice.sample(range(self.passages), each)
            passages = tuple(Passage(str(i), self.text(i)) for i in chosen)
            found.append(Candidates(Query(str(number), self.text(number, 6)), passages))
        return found

    def docs_store(self) -> Any:
        """Open the document store, as a dataset does whenever it is asked."""
        from ir_datasets.indices import PickleLz4FullStore

        text = self.text(0)
        documents = partial(map, lambda number: Doc(str(number), f"{text} {number}"), range(self.passages))
        path = str(self.folder / "docs.pklz4")
        return PickleLz4FullStore(path, documents, Doc, "doc_id", ["doc_id"], count_hint=self.passages)

    @cached_property
    def store(self) -> EmbeddingStore:
        """Random unit vectors."""
        encoder = SimpleNamespace(width=self.width, identity={"name": "random"}, encode_passages=self.vectors)
        items = ((str(number), str(number)) for number in range(self.passages))
        return encode_into(self.folder / "store", items, encoder, StoreOptions(batch_size=65_536, progress=False))

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """A random unit vector for each text."""
        dice = np.random.default_rng([len(texts), *map(ord, texts[0][:8])])
        drawn_NE = torch.from_numpy(dice.standard_normal((len(texts), self.width), dtype=np.float32))
        return torch.nn.functional.normalize(drawn_NE)


def lookups(corpus: Corpus, candidates: Sequence[Candidates]) -> Two:
    """Passages of each query, from the document store."""
    ids = [[passage.id for passage in found.passages] for found in candidates]
    passages = _Passages("synthetic", corpus)
    return (
        lambda: before.passages_of(corpus, list(chain.from_iterable(ids))),
        lambda: list(chain.from_iterable(passages_by_id(passages, row) for row in ids)),
    )


class _NoModel(torch.nn.Module):
    """A classifier of one label, for its tokenizer alone."""

    config = SimpleNamespace(num_labels=1)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> None:
        """Do nothing."""


def pairs(tokenizer: Any, candidates: Sequence[Candidates]) -> Two:
    """Token ids of (query, passage), 64 queries at a time as the teacher ranks them."""
    scorer = CrossEncoder(_NoModel(), tokenizer)
    asked = [(found.query.text, passage.text) for found in candidates for passage in found.passages]
    together = 64 * len(candidates[0])
    starts = range(0, len(asked), together)
    return (
        lambda: [scorer.pair(*texts) for texts in asked],
        lambda: [pair for start in starts for pair in scorer.pairs(asked[start : start + together])],
    )


def lengths(prompts: PromptBuilder, candidates: Sequence[Candidates]) -> Two:
    """Tokens of prompts with texts, 64 queries at a time."""
    rows = [(found.query.text, [passage.text for passage in found.passages]) for found in candidates]
    starts = range(0, len(rows), 64)

    def count_all() -> list[int]:
        prompts._ids_of.cache_clear()  # of earlier rounds
        return [before.length(prompts, *row) for row in rows]

    return (
        count_all,
        lambda: [length for start in starts for length in prompts.lengths_with_text(rows[start : start + 64])],
    )


class IdleModel:
    """A model that takes no time and returns the tokens' ids as vectors [B, L, 1]."""

    config = SimpleNamespace(hidden_size=1, vocab_size=1 << 20)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=input_ids[..., None])


def encoding(tokenizer: Any, texts: Sequence[str], batch_size: int = 256) -> Two:
    """Vectors of passages by a model that takes no time; the budget of tokens is a GPU's."""
    encoder = Encoder("idle", batch_tokens=16_384)
    encoder.__dict__ |= {"tokenizer": tokenizer, "model": IdleModel()}
    batches = [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]
    return (
        lambda: [before.encode(encoder, batch).tolist() for batch in batches],
        lambda: [vectors.tolist() for vectors in encoder.encode_batches(batches)],
    )


def search(corpus: Corpus, queries: int, depth: int) -> Two:
    """The nearest passages of random queries; only the search is timed, not the encoding."""
    store, asked = corpus.store, {str(number): Query(str(number), str(number)) for number in range(queries)}
    vectors_QE = corpus.vectors(["queries", *asked])[1:]
    encoder = SimpleNamespace(
        width=corpus.width,
        identity=store.identity,
        encode_queries=lambda texts: vectors_QE[int(texts[0]) : int(texts[0]) + len(texts)],
    )
    collection: Any = SimpleNamespace(name="synthetic", queries=asked, passages=range(corpus.passages))
    dense = Dense(encoder, store, depth)
    return lambda: before.search(store, vectors_QE, depth), lambda: list(dense.search(collection).values())
