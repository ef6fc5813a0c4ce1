"""The authors' inference procedure, written anew from a description of it: the baseline that speed is measured against.

What it does as they do: one query at a time; every window encodes its passages again, in one padded batch; candidates
become rows behind the vocabulary in both of the LLM's embedding tables, which are resized whenever a window has another
number of them; Hugging Face's `generate` projects every step onto the whole vocabulary, and a prefix function leaves
what may come next; the end of the sequence is generated too, so a window of n takes n + 1 forwards. What it does not
repeat are defects that change rankings: 128 new tokens at most, n = window - step left unranked.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.weights import load_encoder_weights
from perank.model.locate import locate
from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder
from perank.ranking.windows import Windows, apply
from perank.records import Bill, Candidates, Ranking


class AuthorsProcedure:
    """A `Ranker`, on a copy of the LLM, whose tables it changes. Raises `BadInput` for a model with anchors."""

    def __init__(
        self, model: PERank, prompts: PromptBuilder, encoder: Encoder, *, windows: Windows | None = None
    ) -> None:
        if model.anchors is not None:
            raise BadInput("the authors' procedure has no anchors", remedy="use a model of the paper's form")
        self.llm, self.project, self.prompts = copy.deepcopy(model.llm), model.project, prompts
        self.encoder, self.windows = as_authors_encode(encoder), windows or Windows(20, 10)
        self.vocabulary = self.llm.get_input_embeddings().weight.shape[0]
        self.end = prompts.tokenizer.eos_token_id

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, one after the other."""
        return [self._rank(candidates) for candidates in batch]

    def _rank(self, candidates: Candidates) -> Ranking:
        order, bill = list(range(len(candidates))), Bill()
        for span in self.windows.plan(len(candidates)):
            texts = [candidates.passages[i].contents for i in order[span.start : span.stop]]
            ranking, cost = self._window(candidates.query.text, texts)
            order, bill = apply(order, span, ranking), bill + cost
        return Ranking(candidates, tuple(order), bill)

    @torch.no_grad()
    def _window(self, query: str, texts: Sequence[str]) -> tuple[list[int], Bill]:
        n, began = len(texts), time.perf_counter()
        vectors_XE = self.encoder.encode_passages(texts)
        prompt = self.prompts.rank(query, n)
        if prompt.query_slot is not None:  # an extension of ours: one more row, which is never allowed
            vectors_XE = torch.cat([vectors_XE, self.encoder.encode_queries([query])])
        encoded = time.perf_counter()
        self._extend(self.project(vectors_XE.to(self.llm.device)))
        slots = [*prompt.slots, *([] if prompt.query_slot is None else [prompt.query_slot])]
        ids_1L = torch.tensor([prompt.ids], device=self.llm.device)
        ids_1L[0, slots] = torch.arange(len(slots), device=ids_1L.device) + self.vocabulary
        allowed = _Allowed(range(self.vocabulary, self.vocabulary + n), self.end, len(prompt))
        written = self.llm.generate(
            ids_1L,
            attention_mask=torch.ones_like(ids_1L),
            max_new_tokens=n + 1,
            do_sample=False,
            prefix_allowed_tokens_fn=allowed,
            eos_token_id=self.end,
            pad_token_id=self.end,
        )
        ended = time.perf_counter()
        ranking = [token - self.vocabulary for token in written[0, len(prompt) :].tolist() if token != self.end]
        prefilled = allowed.first_asked - encoded
        return ranking, Bill(
            forwards=n + 1,
            tokens_processed=len(prompt) + n,
            tokens_generated=n,
            seconds_encode=encoded - began,
            seconds_prefill=prefilled,
            seconds_decode=ended - encoded - prefilled,
        )

    def _extend(self, projected_XD: Tensor) -> None:
        """The candidates' vectors as rows behind the vocabulary, in both tables."""
        size = self.vocabulary + len(projected_XD)
        if self.llm.get_input_embeddings().weight.shape[0] != size:
            self.llm.resize_token_embeddings(size, mean_resizing=False)
        for table in (self.llm.get_input_embeddings(), self.llm.get_output_embeddings()):
            table.weight.data[self.vocabulary :] = projected_XD.to(table.weight.dtype)


class _Allowed:
    """`generate`'s prefix function: candidates that weren't ranked yet, then the end. Notes when it is first asked."""

    def __init__(self, candidates: Sequence[int], end: int, prompt: int) -> None:
        self.candidates, self.end, self.prompt, self.first_asked = candidates, end, prompt, 0.0

    def __call__(self, row: int, ids_L: Tensor) -> list[int]:
        self.first_asked = self.first_asked or time.perf_counter()
        ranked = set(ids_L[self.prompt :].tolist())
        return [token for token in self.candidates if token not in ranked] or [self.end]


def as_authors_encode(encoder: Encoder) -> Encoder:
    """The same encoder with plain linear layers, all texts of a call in one padded batch."""
    plain = replace(encoder, batch_tokens=10**9)
    load: Callable[..., Any] = load_encoder_weights
    model = load(
        locate(encoder.name),
        revision=encoder.revision,
        dtype=encoder.torch_dtype,
        trust_remote_code=encoder.trust_remote_code,
    )
    plain.model = model.eval().to(encoder.torch_device)
    return plain
