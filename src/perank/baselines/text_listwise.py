"""Listwise reranking over texts by a local LLM that writes `[4] > [2] > ...`: RankMistral, RankVicuna, RankZephyr.

Windows of one query follow each other, those of different queries run together. A window is written as deep as
somebody will look at it and no further; `every_rank` writes all of it, as the authors of these systems do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from perank.baselines.permutation import permutation, ranked_so_far
from perank.baselines.sliding import Sliding, needed
from perank.errors import BadInput
from perank.model.listwise_prompts import ListwisePrompt, ListwisePrompts
from perank.model.precision import autocast_for
from perank.ranking.reranker import evaluating
from perank.ranking.text_decoding import TextDecoder
from perank.ranking.vectors import batches
from perank.ranking.windows import Windows
from perank.records import Bill, Candidates, Ranking
from perank.sources.views import Field, TextView


class TextListwise:
    """A `Ranker`: prompts with texts in, identifiers out, greedily, with a KV cache.

    `prompts` say what is written and how long it may be: texts are shortened evenly where a prompt and its answer would
    exceed their `max_length` or the LLM's positions, and the bill counts them. An answer that goes astray is stopped
    `spare_tokens` behind where it should have ended. `batch_tokens` bounds what runs together (None: 16,384 on a CPU,
    else 131,072). With a `cutoff` only that many first ranks are exact.

    Bills are a window's as if it ran alone: forwards, tokens read (prompts, and what was written and fed back), tokens
    written, and its share of the batch's seconds, by tokens. Raises `BadInput` as `Windows.plan` and `KVCache` do.
    """

    def __init__(
        self,
        llm: Any,
        prompts: ListwisePrompts,
        *,
        windows: Windows | None = None,
        cutoff: int | None = None,
        view: TextView | None = None,
        every_rank: bool = False,
        spare_tokens: int = 8,
        batch_tokens: int | None = None,
    ) -> None:
        self.writer, self.prompts = TextDecoder(llm, prompts.builder.tokenizer), prompts
        self.windows, self.cutoff, self.view = windows or Windows(), cutoff, view or Field()
        self.windows.plan(0, cutoff)
        self.every_rank, self.spare_tokens, self.batch_tokens = every_rank, spare_tokens, batch_tokens
        positions = getattr(self.writer.decoder.config, "max_position_embeddings", None) or prompts.max_length
        self.max_length = min(prompts.max_length, positions)
        if prompts.template.letters:
            raise BadInput(f"{prompts.version} answers with one letter", remedy="use ranker=first for it")

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, in its order, whatever the LLM writes."""
        jobs = [Sliding.over(found, self.windows, self.cutoff, every_rank=self.every_rank) for found in batch]
        with evaluating(self.writer.llm), autocast_for(self.writer.llm, self.writer.device):
            for wave in range(max((len(job.spans) for job in jobs), default=0)):
                running = [job for job in jobs if wave < len(job.spans)]
                prompts = [self._prompt(job, wave) for job in running]
                costs = [
                    (len(prompt.ids), self._budget(job, wave)) for job, prompt in zip(running, prompts, strict=True)
                ]
                for group in batches(costs, self._together()):
                    self._rank([running[i] for i in group], [prompts[i] for i in group], wave)
        return [job.ranking() for job in jobs]

    def _prompt(self, job: Sliding, wave: int) -> ListwisePrompt:
        texts = job.texts(job.spans[wave], self.view)
        return self.prompts.rank(job.candidates.query.text, texts, within=self.max_length - self._budget(job, wave))

    def _budget(self, job: Sliding, wave: int) -> int:
        span = job.spans[wave]
        return self.prompts.answer_tokens(span.stop - span.start) + self.spare_tokens

    def _rank(self, jobs: list[Sliding], prompts: list[ListwisePrompt], wave: int) -> None:
        spans = [job.spans[wave] for job in jobs]
        sizes = [span.stop - span.start for span in spans]
        asked = [size if self.every_rank else needed(span) for span, size in zip(spans, sizes, strict=True)]
        written = self.writer.write(
            [prompt.ids for prompt in prompts],
            [self._budget(job, wave) for job in jobs],
            lambda b, text: ranked_so_far(text, sizes[b]) >= asked[b],
        )
        read, wrote = sum(len(prompt.ids) for prompt in prompts), sum(written.tokens)
        for b, (job, prompt) in enumerate(zip(jobs, prompts, strict=True)):
            found = permutation(written.texts[b], sizes[b], asked=asked[b])
            bill = Bill(
                forwards=written.tokens[b],
                tokens_processed=len(prompt.ids) + written.tokens[b] - 1,
                tokens_generated=written.tokens[b],
                seconds_prefill=written.seconds_prefill * len(prompt.ids) / read,
                seconds_decode=written.seconds_decode * written.tokens[b] / wrote,
            )
            job.settle(
                spans[b], found.order, replace(bill, repairs=found.repairs.total, texts_shortened=prompt.shortened)
            )

    def _together(self) -> int:
        return self.batch_tokens or (16_384 if self.writer.device.type == "cpu" else 131_072)
