"""`Reranker`, the public API: rank the candidates of a query.

Windows of one query run in sequence, those of different queries are batched up to a bound on tokens. A ranking depends
only on its own query and candidates, up to rounding from batch shapes.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, Self

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model import PERank, PromptBuilder
from perank.ranking.chunks import Chunked, ShortenedCount
from perank.ranking.constrained import SinglePass
from perank.ranking.decoder import Clock, Decoder, EmbeddedQuery, Window, WindowBatch
from perank.ranking.inference import inference
from perank.ranking.inputs import read_batch, read_documents, read_query, whole_number
from perank.ranking.options import checked_options
from perank.ranking.reader import Reader
from perank.ranking.shared_prefix import MOST
from perank.ranking.vectors import candidate_vectors, check_store, given_vectors
from perank.ranking.windows import SlidingQuery, Span, Windows, run_wave, run_windows
from perank.records import Bill, Candidates, Passage, Query, Ranking, Vectors


class Reranker:
    """PE-Rank over any number of candidates; implements the `Ranker` protocol.

    The default `model` is the packaged one that `Reranker.from_pretrained()` loads. `decoder` is `speculative`
    (Algorithm 1's ranking in fewer forwards), `static` (the same on fixed buffers, for GPUs), `auto` (the faster of the
    two), `constrained` (Algorithm 1), `single_pass` (an approximation), `anchors` (a model's anchors without the LLM)
    or any `Decoder`. With a `store`, passage vectors are looked up by id instead of encoded. `batch_tokens` limits the
    tokens of a batch, padding included (None: 4,096 on a CPU, else 16,384); a larger window runs alone. Models with
    anchors take the order of the passages as that of a first stage; with `first_stage_order=False` its ranks count as
    equal, and all passages replace its best ones in the feedback. With `chunk`, passages of more than so many tokens
    are ranked by their best chunk of that length; all chunks have their passage's rank in the first stage. With a
    `calibration` (by default the saved model's), rankings have probabilities of relevance. `share_prefix`: whether the
    beginning of a query's prompts is read once for all (None: if it is a tenth of them). Raises `BadInput` for a store
    that another encoder filled.

    Bills count the forwards and tokens of each window as if it ran alone, without padding, and a shared beginning once;
    only the number of tokens drafted per forward depends on the rest of the batch. Encoding seconds are the query's
    own; prefill and decoding seconds are its share of the batch's, in proportion to tokens processed.
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
        first_stage_order: bool = True,
        chunk: int | None = None,
        calibration: Callable[[Sequence[float]], tuple[float, ...]] | None = None,
        share_prefix: bool | None = None,
    ) -> None:
        if model is None or prompts is None:
            from perank.saving.hub import from_pretrained

            found = from_pretrained()
            model, prompts, encoder = found.model, found.prompts, encoder or found.encoder
            windows, calibration = windows or Windows(found.window, found.step), calibration or found.calibration
        check_store(store, encoder)
        self.model, self.prompts, self.encoder, self.store = model, prompts, encoder, store
        checked = checked_options(windows, decoder, batch_tokens, chunk, share_prefix)
        self.windows, self.decoder, self.batch_tokens, self.chunk, self.least_shared = checked
        if model.one_state and isinstance(decoder, str) and decoder != "anchors":
            self.decoder = SinglePass()  # gives the same ranking, by one forward per window
        self.first_stage_order, self.calibration = first_stage_order, calibration
        self._count_shortened = ShortenedCount()

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str] | None = None, **given: Any) -> Self:
        """Load a saved PE-Rank model from a folder or Hub id; None loads the packaged model.

        Other arguments are the constructor's, and how to load (`perank.saving.load_options`): device ("cpu"), dtype
        ("auto"), revision, trust_remote_code, token, local_files_only, cache_dir; `torch_dtype` and `device_map` mean
        dtype and device. Raises `BadInput`, before anything is loaded, for an unknown option or value, and if the model
        is missing or incomplete.
        """
        from perank.saving.hub import from_pretrained
        from perank.saving.load_options import split_options

        own = inspect.signature(cls).parameters.values()
        _, options = split_options(given, [option.name for option in own if option.kind is option.KEYWORD_ONLY])
        checkable = inspect.signature(checked_options).parameters
        checked_options(**{name: value for name, value in options.items() if name in checkable})
        found = from_pretrained(name_or_path, **{name: given[name] for name in given.keys() - options.keys()})
        options = {"windows": Windows(found.window, found.step), "calibration": found.calibration} | options
        return cls(found.model, found.prompts, found.encoder, **options)

    @property
    def device(self) -> torch.device:
        """The LLM's device."""
        return next(self.model.parameters()).device

    def rank(
        self,
        query: str | Query,
        passages: Iterable[str | Passage | Mapping[str, Any]] | None = None,
        *,
        passage_embeddings: Any = None,
        query_embedding: Any = None,
        top_k: int | None = None,
        threshold: float | None = None,
    ) -> Ranking:
        """Rank passages for a query, or only their unit vectors [N, E], e.g. from an index.

        A passage is a text, a `Passage`, or a dict with "text" and perhaps "id" and "title"; its id is by default its
        position. `documents` of the result are the caller's own objects, best first. With `top_k` only the first k
        ranks are decoded; `order` still contains all candidates. A calibrated model's `threshold` leaves out candidates
        that are relevant with a lower probability. `query_embedding` [E] is needed only by models that
        use it, if there is no encoder. Raises `BadInput` before anything is encoded: with the position of what is no
        text, for an empty query, if neither texts nor vectors are given, and for vectors that aren't finite, of unit
        length and of the model's width, or whose number differs from that of the passages.
        """
        width = self.model.projector.width_in
        if passages is None and passage_embeddings is None:
            raise BadInput("nothing to rank", remedy="give passages, passage_embeddings or both")
        text, count, given, found = read_query(query), None, tuple[Any, ...](), tuple[Passage, ...]()
        if passages is not None:
            given, found = read_documents(passages, texts=passage_embeddings is None and self.store is None)
            count = len(found)
        vectors_NE = None if passage_embeddings is None else given_vectors(passage_embeddings, width, count=count)
        query_E = None if query_embedding is None else given_vectors([query_embedding], width, of="query")[0]
        if passages is None and vectors_NE is not None:
            found = tuple(Passage(str(i), "") for i in range(len(vectors_NE)))
        windows, candidates = self._cut(top_k), Candidates(text, found)
        if self.chunk is not None and vectors_NE is None:
            ranking = self._by_chunks([candidates], windows, query_E)[0]
        else:
            ranking = self._run([self._embedded(candidates, windows, vectors_NE, query_E)])[0]
        ranking = replace(ranking, given=given)
        return ranking if threshold is None else ranking.cut(threshold)

    def _cut(self, top_k: int | None) -> Windows:
        return self.windows if top_k is None else replace(self.windows, cutoff=whole_number(top_k, "top_k"))

    def check(self, candidates: Candidates) -> None:
        """Raise `BadInput` if the query is empty or a window's prompt too long; encodes and ranks nothing."""
        for size in {span.size for span in SlidingQuery(candidates, self.windows).spans}:
            self.prompts.rank(candidates.query.text, size)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order. Raises `BadInput` as `rank` does."""
        checked = read_batch(batch)
        if self.chunk is not None:
            return self._by_chunks(checked, self.windows)
        return self._run([self._embedded(candidates, self.windows) for candidates in checked])

    def _by_chunks(self, batch: Sequence[Candidates], windows: Windows, query_E: Tensor | None = None) -> list[Ranking]:
        """Rank passages by their best chunks, all of which are ranked: k passages may have any number of chunks."""
        if not hasattr(self.encoder, "pieces"):
            raise BadInput("no encoder that can split texts", remedy="give an Encoder, or no chunk", id="chunk")
        chunked = [Chunked.of(candidates, self.encoder, self.chunk or 1) for candidates in batch]
        spans = [windows if one.is_whole else replace(windows, cutoff=None) for one in chunked]
        pairs = zip(chunked, spans, strict=True)
        ranked = self._run([self._embedded(one.candidates, span, None, query_E, one.owners) for one, span in pairs])
        return [one.by_best(ranking) for one, ranking in zip(chunked, ranked, strict=True)]

    def begin(self, candidates: Candidates, *, vectors_NE: Any = None, top_k: int | None = None) -> EmbeddedQuery:
        """Return a query at its first window, for `advance`; missing vectors are looked up or encoded.

        `top_k` as in `rank`. Raises `BadInput` as `rank` does, for vectors of another width, and with `chunk`.
        """
        if self.chunk is not None:
            raise BadInput("chunks can't be ranked window by window", remedy="call rank or rank_batch", id="chunk")
        return self._embedded(read_batch([candidates])[0], self._cut(top_k), vectors_NE)

    def advance(self, queries: Sequence[EmbeddedQuery]) -> None:
        """Rank the current window of each query that `begin` returned, in batches; finished ones are left alone.

        Between calls queries may join and leave. A query without `spans` is finished: `query.ranking()`.
        """
        with inference(self.model, self.model.llm):
            run_wave([query for query in queries if query.spans], self._next_window, self._decode, self._budget)

    def _embedded(
        self,
        candidates: Candidates,
        windows: Windows,
        vectors_NE: Tensor | None = None,
        query_E: Tensor | None = None,
        ranks: Sequence[int] | None = None,
    ) -> EmbeddedQuery:
        """Create a query at its first window; missing embeddings are looked up or encoded.

        `ranks` are those of the candidates in the first stage, by default their positions.
        """
        shortened = 0 if vectors_NE is not None else self._count_shortened(candidates, self.encoder)
        query, clock, width = EmbeddedQuery(candidates, windows), Clock(self.device), self.model.projector.width_in
        if vectors_NE is None:
            none = torch.empty(0, width)
            vectors_NE = candidate_vectors(candidates, self.encoder, self.store) if len(candidates) else none
        if query_E is None and (self.prompts.query_slot or self.model.needs_query):
            if self.encoder is None:
                raise BadInput("this model reads the query's vector", remedy="give query_embedding or an encoder")
            query_E = torch.as_tensor(self.encoder.encode_queries([query.text]))[0]
        if vectors_NE.shape[1] != width:
            problem = f"vectors of width {vectors_NE.shape[1]}, the model takes {width}"
            raise BadInput(problem, remedy="use the encoder this model was trained with", id=candidates.query.id)
        query.vectors_NE, query.query_E = vectors_NE.float(), query_E
        query.bill = Bill(seconds_encode=clock.lap(), texts_shortened=shortened)
        if (anchors := self.model.anchors) is not None and self.model.needs_origin:
            known = range(len(candidates)) if ranks is None else ranks
            query.ranks_N = torch.tensor(known if self.first_stage_order else [0] * len(known))
            query.first_E = anchors.settings.first_sum(query.vectors_NE, query.ranks_N, query_E)
        query.calibration = self.calibration
        query.least_shared = self.least_shared
        if self.calibration is not None and len(candidates) == 1:
            self._score(query)
        return query

    def _run(self, queries: list[EmbeddedQuery]) -> list[Ranking]:
        for query in queries[MOST:]:
            query.least_shared = math.inf
        with inference(self.model, self.model.llm):
            return run_windows(queries, self._next_window, self._decode, self._budget)

    def _next_window(self, query: EmbeddedQuery) -> Window:
        return query.window(self.prompts.rank)

    @property
    def _budget(self) -> int:
        return self.batch_tokens or (4096 if self.device.type == "cpu" else 16384)

    def _score(self, query: EmbeddedQuery) -> None:
        """Score the only passage of a query, which no decoder runs the model for."""
        query.spans = [Span(0, 1, 1)]
        window = self._next_window(query)
        with inference(self.model, self.model.llm):
            score = Reader(self.model, WindowBatch.of([window]).to(self.device), ranks=1).read()
        query.settle((0,), Bill(forwards=1, tokens_processed=len(window.prompt)), score[0].tolist())

    def _decode(self, windows: list[Window]) -> Iterable[tuple[Any, ...]]:
        decoded = self.decoder.decode(self.model, WindowBatch.of(windows).to(self.device))
        return zip(decoded.orders, decoded.bills, decoded.first_scores or repeat(()), strict=False)
