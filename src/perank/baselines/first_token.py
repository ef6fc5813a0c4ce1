"""FIRST: a window's ranking from the logits of one token, the first identifier the LLM would write.

The prompt ends with an opened bracket; passages are sorted by how likely their letter comes next. One forward a window,
nothing is written. The published model was trained for it; any local LLM can be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from perank.baselines.sliding import Sliding
from perank.errors import BadInput
from perank.model.listwise_prompts import ListwisePrompt, ListwisePrompts
from perank.model.precision import autocast_for
from perank.ranking.decoder import Clock
from perank.ranking.kv_cache import KVCache
from perank.ranking.reranker import evaluating
from perank.ranking.text_decoding import TextDecoder
from perank.ranking.vectors import batches
from perank.ranking.windows import Windows
from perank.records import Bill, Candidates, Ranking
from perank.sources.views import Field, TextView

LETTERS = 26


class FirstToken:
    """A `Ranker`; equal logits keep their order. `batch_tokens` bounds what runs together (None: 4,096 on a CPU).

    Raises `BadInput` for a window of more than 26 passages, for prompts whose identifiers aren't letters, and for a
    tokenizer that doesn't give every letter a token of its own.
    """

    def __init__(
        self,
        llm: Any,
        prompts: ListwisePrompts,
        *,
        windows: Windows | None = None,
        cutoff: int | None = None,
        view: TextView | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.writer, self.prompts = TextDecoder(llm, prompts.builder.tokenizer), prompts
        self.windows, self.cutoff, self.view = windows or Windows(), cutoff, view or Field()
        self.batch_tokens = batch_tokens or (4096 if self.writer.device.type == "cpu" else 65_536)
        if self.windows.window > LETTERS:
            problem = f"a window of {self.windows.window} passages, there are {LETTERS} letters"
            raise BadInput(problem, remedy="use window=w20s10")
        self.letters = letter_tokens(prompts)
        positions = getattr(self.writer.decoder.config, "max_position_embeddings", None) or prompts.max_length
        self.max_length = min(prompts.max_length, positions - 1)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, in its order."""
        jobs = [Sliding.over(found, self.windows, self.cutoff, every_rank=False) for found in batch]
        with evaluating(self.writer.llm), autocast_for(self.writer.llm, self.writer.device):
            for wave in range(max((len(job.spans) for job in jobs), default=0)):
                running = [job for job in jobs if wave < len(job.spans)]
                prompts = [self._prompt(job, wave) for job in running]
                for group in batches([(len(prompt.ids), 0) for prompt in prompts], self.batch_tokens):
                    self._rank([running[i] for i in group], [prompts[i] for i in group], wave)
        return [job.ranking() for job in jobs]

    def _prompt(self, job: Sliding, wave: int) -> ListwisePrompt:
        texts = job.texts(job.spans[wave], self.view)
        return self.prompts.rank(job.candidates.query.text, texts, within=self.max_length)

    def _rank(self, jobs: list[Sliding], prompts: list[ListwisePrompt], wave: int) -> None:
        clock = Clock(self.writer.device)
        ids = [prompt.ids for prompt in prompts]
        with torch.no_grad():
            logits_BV = self.writer.logits(self.writer.read(KVCache(self.writer, max(map(len, ids))), ids))
        scores_BN = logits_BV[:, self.letters]
        seconds, tokens = clock.lap(), sum(map(len, ids))
        for job, prompt, scores_N in zip(jobs, prompts, scores_BN, strict=True):
            span = job.spans[wave]
            order = scores_N[: span.stop - span.start].sort(descending=True, stable=True).indices.tolist()
            bill = Bill(
                forwards=1,
                tokens_processed=len(prompt.ids),
                tokens_generated=1,
                seconds_prefill=seconds * len(prompt.ids) / tokens,
                texts_shortened=prompt.shortened,
            )
            job.settle(span, order, bill)


def letter_tokens(prompts: ListwisePrompts) -> list[int]:
    """The token that each letter would be behind the prompt. Raises `BadInput` where a letter has none of its own."""
    shape = prompts.template
    if not shape.letters:
        raise BadInput(f"the prompt {prompts.version!r} names passages by numbers", remedy="use the prompt 'first'")
    user = shape.message("query", ["text"])
    before, tokens = prompts.render(user).ids, list[int]()
    for position in range(LETTERS):
        after = prompts.render(user, shape.opening + shape.identifier(position)).ids
        if after[: len(before)] != before or len(after) != len(before) + 2:  # the letter, the end of the sequence
            problem = f"the tokenizer doesn't give {shape.identifier(position)!r} a token of its own behind the bracket"
            raise BadInput(problem, remedy="use the model's own tokenizer")
        tokens.append(after[len(before)])
    if len(set(tokens)) < LETTERS:
        raise BadInput("the tokenizer knows some letters alike", remedy="use the model's own tokenizer")
    return tokens
