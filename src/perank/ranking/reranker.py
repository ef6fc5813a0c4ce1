"""`Reranker`: a query and its candidates in, a ranking out. What users import.

Windows of one query follow each other, those of different queries run together; one bound on tokens decides how many.
A ranking depends on its own query and candidates only, to the rounding that other batch shapes bring.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from perank.errors import BadInput
from perank.model.batches import PromptBatch
from perank.model.pe_rank import PERank
from perank.model.precision import autocast_for
from perank.model.prompts import Prompt, PromptBuilder
from perank.ranking.decoder import Clock, Decoder, WindowBatch
from perank.ranking.decoders import named
from perank.ranking.vectors import batches, candidate_vectors, check_store, given_vectors
from perank.ranking.windows import Span, Windows, apply
from perank.records import Bill, Candidates, Passage, Query, Ranking, Vectors


@dataclass(slots=True)
class _Job:
    """One query on its way through its windows."""

    candidates: Candidates
    vectors_NE: Tensor
    query_E: Tensor | None
    spans: list[Span]
    order: list[int]
    bill: Bill
    prompts: dict[int, Prompt] = field(default_factory=dict)


class Reranker:
    """PE-Rank over any number of candidates; keeps the `Ranker` protocol.

    Without a `model` it is the one that ships inside the package, as `Reranker.from_pretrained()` loads it.
    `decoder` is `speculative` (Algorithm 1's ranking in fewer forwards), `constrained` (Algorithm 1 itself),
    `single_pass` (an approximation) or any `Decoder`. With a `cutoff` only that many first ranks are exact. A `store`
    replaces encoding: passages are looked up by id. `batch_tokens` bounds what runs together, padding included (None:
    4,096 on a CPU, else 16,384); a single window beyond it runs alone.

    Bills: forwards and tokens are counted for every window as if it ran alone (padding and rows that wait for others
    are nobody's); only how many tokens speculation drafts a forward depends on the company. Seconds of encoding are
    the query's own; those of prefill and decoding are its share of the batch's, by tokens processed.
    Raises `BadInput` for a cutoff below 1 and a store that another encoder filled.
    """

    def __init__(
        self,
        model: PERank | None = None,
        prompts: PromptBuilder | None = None,
        encoder: Any = None,
        *,
        windows: Windows | None = None,
        decoder: str | Decoder = "speculative",
        cutoff: int | None = None,
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
        self.windows, self.cutoff = windows or Windows(), cutoff
        self.windows.plan(0, cutoff)
        self.decoder = named(decoder) if isinstance(decoder, str) else decoder
        self.batch_tokens = batch_tokens

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
        """A saved PE-Rank model: a folder, a Hub id, or None for the one that ships inside the package.

        `options` go to the constructor. Raises `BadInput` where there is no such model or it isn't whole.
        """
        from perank.saving.hub import from_pretrained

        found = from_pretrained(name_or_path, device=device, dtype=dtype, revision=revision)
        options.setdefault("windows", Windows(found.window, found.step))
        return cls(found.model, found.prompts, found.encoder, **options)

    @property
    def device(self) -> torch.device:
        """Where the LLM is."""
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
        """Rank passages (texts or `Passage`s) for a query, or their unit vectors [N, E] alone, straight from an index.

        With `top_k` only the first k ranks are decoded; `order` still holds everyone. Texts get their position as id.
        `query_embedding` [E] is needed only by models that use it, and only where there is no encoder.
        Raises `BadInput` for an empty query, for vectors that aren't finite, of unit length, of the model's width or
        as many as the passages, and where there is neither text nor vector.
        """
        width = self.model.projector.width_in
        if passages is None and passage_embeddings is None:
            raise BadInput("nothing to rank", remedy="give passages, passage_embeddings or both")
        count = None if passages is None else len(passages)
        vectors_NE = None if passage_embeddings is None else given_vectors(passage_embeddings, width, count=count)
        query_E = None
        if query_embedding is not None:
            query_E = given_vectors([query_embedding], width, of="query")[0]
        made = passages if passages is not None else [""] * len(vectors_NE if vectors_NE is not None else [])
        named = tuple(p if isinstance(p, Passage) else Passage(str(i), p) for i, p in enumerate(made))
        cutoff = self.cutoff if top_k is None else top_k
        return self._run([self._job(Candidates(Query("", query), named), vectors_NE, query_E, cutoff)])[0]

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, in its order. Raises `BadInput` as `rank` does."""
        return self._run([self._job(candidates, None, None, self.cutoff) for candidates in batch])

    def _job(
        self, candidates: Candidates, vectors_NE: Tensor | None, query_E: Tensor | None, cutoff: int | None
    ) -> _Job:
        if not candidates.query.text.strip():
            raise BadInput("the query is empty", remedy="give it a text", id=candidates.query.id)
        spans = self.windows.plan(len(candidates), cutoff)
        clock = Clock(self.device)
        if vectors_NE is None and len(candidates):
            vectors_NE = candidate_vectors(candidates, self.encoder, self.store)
        if vectors_NE is None:
            vectors_NE = torch.empty(0, self.model.projector.width_in)
        if query_E is None and (self.prompts.query_slot or self.model.residual):
            if self.encoder is None:
                raise BadInput("this model reads the query's vector", remedy="give query_embedding or an encoder")
            query_E = torch.as_tensor(self.encoder.encode_queries([candidates.query.text]))[0]
        if vectors_NE.shape[1] != self.model.projector.width_in:
            problem = f"vectors of width {vectors_NE.shape[1]}, the model takes {self.model.projector.width_in}"
            raise BadInput(problem, remedy="use the encoder this model was trained with", id=candidates.query.id)
        order = list(range(len(candidates)))
        return _Job(candidates, vectors_NE, query_E, spans, order, Bill(seconds_encode=clock.lap()))

    def _run(self, jobs: list[_Job]) -> list[Ranking]:
        with evaluating(self.model), autocast_for(self.model.llm, self.device):
            for wave in range(max((len(job.spans) for job in jobs), default=0)):
                running = [job for job in jobs if wave < len(job.spans) and len(job.candidates) > 1]
                costs = [self._cost(job, job.spans[wave]) for job in running]
                for group in batches(costs, self._budget()):
                    self._decode([running[i] for i in group], wave)
        return [Ranking(job.candidates, tuple(job.order), job.bill) for job in jobs]

    def _cost(self, job: _Job, span: Span) -> tuple[int, int]:
        n = span.stop - span.start
        if n not in job.prompts:
            job.prompts[n] = self.prompts.rank(job.candidates.query.text, n)
        return len(job.prompts[n]), n

    def _decode(self, jobs: list[_Job], wave: int) -> None:
        spans = [job.spans[wave] for job in jobs]
        sizes = [span.stop - span.start for span in spans]
        vectors_BNE = torch.zeros(len(jobs), max(sizes), jobs[0].vectors_NE.shape[1])
        for b, (job, span) in enumerate(zip(jobs, spans, strict=True)):
            vectors_BNE[b, : sizes[b]] = job.vectors_NE[job.order[span.start : span.stop]]
        queries = [job.query_E for job in jobs if job.query_E is not None]
        windows = WindowBatch(
            PromptBatch.of([job.prompts[n] for job, n in zip(jobs, sizes, strict=True)]),
            vectors_BNE,
            torch.arange(max(sizes)) < torch.tensor(sizes)[:, None],
            depth=[span.depth for span in spans],
            query_BE=torch.stack(queries) if queries else None,
        )
        decoded = self.decoder.decode(self.model, windows.to(self.device))
        processed = sum(decoded.tokens_processed) or 1
        for b, (job, span) in enumerate(zip(jobs, spans, strict=True)):
            share = decoded.tokens_processed[b] / processed
            job.order = apply(job.order, span, decoded.orders[b])
            job.bill += Bill(
                forwards=decoded.forwards[b],
                tokens_processed=decoded.tokens_processed[b],
                tokens_generated=decoded.tokens_generated[b],
                seconds_prefill=decoded.seconds_prefill * share,
                seconds_decode=decoded.seconds_decode * share,
            )

    def _budget(self) -> int:
        return self.batch_tokens or (4096 if self.device.type == "cpu" else 16384)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, afterwards every module's own mode again: a model may be ranked with between two steps."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
