"""`Reranker`, the public API: rank the candidates of a query.

Windows of one query run in sequence, those of different queries are batched up to a bound on tokens. A ranking depends
only on its own query and candidates, up to rounding from batch shapes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Clock, Decoder, Window, WindowBatch
from perank.ranking.inference import inference
from perank.ranking.single_pass import SinglePass
from perank.ranking.speculative import Speculative
from perank.ranking.static.auto import Auto
from perank.ranking.static.decoder import Static
from perank.ranking.vectors import candidate_vectors, check_store, given_vectors
from perank.ranking.windows import SlidingQuery, Windows, run_wave, run_windows
from perank.records import Bill, Candidates, Passage, Query, Ranking, Vectors


class EmbeddedQuery(SlidingQuery):
    """A query on its way through its windows, with its passages' and its own embeddings, [N, E] and [E]."""

    vectors_NE: Tensor
    query_E: Tensor | None


class Reranker:
    """PE-Rank over any number of candidates; implements the `Ranker` protocol.

    The default `model` is the packaged one that `Reranker.from_pretrained()` loads. `decoder` is `speculative`
    (Algorithm 1's ranking in fewer forwards), `static` (the same on fixed buffers, for GPUs), `auto` (the faster of the
    two), `constrained` (Algorithm 1), `single_pass` (an approximation) or any `Decoder`. With a `store`, passage
    vectors are looked up by id instead of encoded. `batch_tokens` limits the tokens of a batch, padding included (None:
    4,096 on a CPU, else 16,384); a larger window runs alone. Raises `BadInput` for a store that another encoder filled.

    Bills count the forwards and tokens of each window as if it ran alone, without padding; only the number of tokens
    drafted per forward depends on the rest of the batch. Encoding seconds are the query's own; prefill and decoding
    seconds are its share of the batch's, in proportion to tokens processed.
    """

    def __init__(
        self,
        model: PERank | None = None,
        prompts: PromptBuilder | None = None,
        encoder: Any = None,
        *,
        windows: Windows | None = None,
        decoder: str | Decoder = "speculative",
        store: Vectors | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        if model is None or prompts is None:
            from perank.saving.hub import from_pretrained

            found = from_pretrained()
            model, prompts, encoder = found.model, found.prompts, encoder or found.encoder
            windows = windows or Windows(found.window, found.step)
        check_store(store, encoder)
        self.model, self.prompts, self.encoder, self.store = model, prompts, encoder, store
        self.windows, self.batch_tokens = windows or Windows(), batch_tokens
        self.decoder = decoder_named(decoder) if isinstance(decoder, str) else decoder

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        revision: str | None = None,
        **options: Any,
    ) -> Self:
        """Load a saved PE-Rank model from a folder or Hub id; None loads the packaged model.

        `options` are passed to the constructor. Raises `BadInput` if the model is missing or incomplete.
        """
        from perank.saving.hub import from_pretrained

        found = from_pretrained(name_or_path, device=device, dtype=dtype, revision=revision)
        options.setdefault("windows", Windows(found.window, found.step))
        return cls(found.model, found.prompts, found.encoder, **options)

    @property
    def device(self) -> torch.device:
        """The LLM's device."""
        return next(self.model.parameters()).device

    def rank(
        self,
        query: str,
        passages: Sequence[str | Passage] | None = None,
        *,
        passage_embeddings: Any = None,
        query_embedding: Any = None,
        top_k: int | None = None,
    ) -> Ranking:
        """Rank passages (texts or `Passage`s) for a query, or only their unit vectors [N, E], e.g. from an index.

        With `top_k` only the first k ranks are decoded; `order` still contains all candidates. The id of a text is its
        position. `query_embedding` [E] is needed only by models that use it, if there is no encoder. Raises `BadInput`
        for an empty query, if neither texts nor vectors are given, and for vectors that aren't finite, of unit length
        and of the model's width, or whose number differs from that of the passages.
        """
        width = self.model.projector.width_in
        if passages is None and passage_embeddings is None:
            raise BadInput("nothing to rank", remedy="give passages, passage_embeddings or both")
        count = None if passages is None else len(passages)
        vectors_NE = None if passage_embeddings is None else given_vectors(passage_embeddings, width, count=count)
        query_E = None
        if query_embedding is not None:
            query_E = given_vectors([query_embedding], width, of="query")[0]
        texts = passages if passages is not None else [""] * len(vectors_NE if vectors_NE is not None else [])
        found = tuple(p if isinstance(p, Passage) else Passage(str(i), p) for i, p in enumerate(texts))
        windows = self.windows if top_k is None else replace(self.windows, cutoff=top_k)
        return self._run([self._embedded(Candidates(Query("", query), found), windows, vectors_NE, query_E)])[0]

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order. Raises `BadInput` as `rank` does."""
        return self._run([self._embedded(candidates, self.windows) for candidates in batch])

    def begin(
        self, candidates: Candidates, *, vectors_NE: Tensor | None = None, top_k: int | None = None
    ) -> EmbeddedQuery:
        """Return a query at its first window, for `advance`; missing vectors are looked up or encoded.

        `top_k` as in `rank`. Raises `BadInput` for an empty query and for vectors of another width.
        """
        windows = self.windows if top_k is None else replace(self.windows, cutoff=top_k)
        return self._embedded(candidates, windows, vectors_NE)

    def advance(self, queries: Sequence[EmbeddedQuery]) -> None:
        """Rank the current window of each query that `begin` returned, in batches; finished ones are left alone.

        Between calls queries may join and leave. A query without `spans` is finished: `query.ranking()`.
        """
        open_queries = [query for query in queries if query.spans]
        with inference(self.model, self.model.llm):
            run_wave(open_queries, self._window_of(), self._decode, self._budget)

    def _embedded(
        self,
        candidates: Candidates,
        windows: Windows,
        vectors_NE: Tensor | None = None,
        query_E: Tensor | None = None,
    ) -> EmbeddedQuery:
        """Create a query at its first window; missing embeddings are looked up or encoded."""
        query, clock, width = EmbeddedQuery(candidates, windows), Clock(self.device), self.model.projector.width_in
        if vectors_NE is None:
            none = torch.empty(0, width)
            vectors_NE = candidate_vectors(candidates, self.encoder, self.store) if len(candidates) else none
        if query_E is None and (self.prompts.query_slot or self.model.residual):
            if self.encoder is None:
                raise BadInput("this model reads the query's vector", remedy="give query_embedding or an encoder")
            query_E = torch.as_tensor(self.encoder.encode_queries([query.text]))[0]
        if vectors_NE.shape[1] != width:
            problem = f"vectors of width {vectors_NE.shape[1]}, the model takes {width}"
            raise BadInput(problem, remedy="use the encoder this model was trained with", id=candidates.query.id)
        query.vectors_NE, query.query_E, query.bill = vectors_NE.float(), query_E, Bill(seconds_encode=clock.lap())
        return query

    def _run(self, queries: list[EmbeddedQuery]) -> list[Ranking]:
        with inference(self.model, self.model.llm):
            return run_windows(queries, self._window_of(), self._decode, self._budget)

    def _window_of(self) -> Callable[[EmbeddedQuery], Window]:
        """A function from a query to its current window, which remembers prompts."""
        prompt_of = cache(self.prompts.rank)  # most windows of a query have the same size

        def prepare(query: EmbeddedQuery) -> Window:
            span = query.spans[0]
            prompt = prompt_of(query.text, span.size)
            return Window(prompt, query.vectors_NE[query.positions], span.depth, query.query_E)

        return prepare

    @property
    def _budget(self) -> int:
        return self.batch_tokens or (4096 if self.device.type == "cpu" else 16384)

    def _decode(self, windows: list[Window]) -> Iterable[tuple[Sequence[int], Bill]]:
        decoded = self.decoder.decode(self.model, WindowBatch.of(windows).to(self.device))
        return zip(decoded.orders, decoded.bills, strict=True)


def decoder_named(name: str) -> Decoder:
    """`auto`, `speculative`, `static`, `constrained` or `single_pass`. Raises `BadInput` for another name."""
    match name:
        case "constrained":
            return Constrained()
        case "speculative":
            return Speculative()
        case "static":
            return Static()
        case "auto":
            return Auto()
        case "single_pass":
            return SinglePass()
    raise BadInput(f"unknown decoder {name!r}", remedy="choose auto, speculative, static, constrained or single_pass")
