"""Listwise reranking of texts by a local LLM that writes `[4] > [2] > ...`: RankMistral, RankVicuna, RankZephyr.

A window's ranking is generated only as deep as the next window or the cutoff uses it; `every_rank` generates all of it,
as the authors of these systems do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from perank.baselines.permutation import permutation, ranked_so_far
from perank.errors import BadInput
from perank.model import ListwisePrompt, ListwisePrompts
from perank.ranking.inference import inference
from perank.ranking.text_decoding import TextDecoder
from perank.ranking.windows import SlidingQuery, Windows, run_windows
from perank.records import Bill, Candidates, Passage, Ranking


@dataclass(frozen=True, slots=True)
class TextWindow:
    """A prompt over `size` texts, the number of ranks to generate, and the token budget of the answer."""

    prompt: ListwisePrompt
    size: int
    asked: int
    answer_tokens: int

    @property
    def cost(self) -> tuple[int, int]:
        """Tokens of the prompt and the answer."""
        return len(self.prompt.ids), self.answer_tokens


class TextListwise:
    """A `Ranker` that greedily decodes passage identifiers from prompts with texts, with a KV cache.

    `view` gives a passage's text. Texts are truncated evenly if a prompt and its answer would exceed the prompts'
    `max_length` or the LLM's positions; the bill counts them. A malformed answer is stopped `spare_tokens` after its
    expected length. `batch_tokens` limits the tokens of a batch (None: 16,384 on a CPU, else 131,072).

    Bills count each window as if it ran alone: forwards, tokens read (the prompt and the tokens fed back), tokens
    generated, and its share of the batch's seconds in proportion to tokens. Raises `BadInput` as `KVCache` does, and
    for prompts that expect another kind of answer.
    """

    batch_tokens_cpu, batch_tokens_gpu = 16_384, 131_072

    def __init__(
        self,
        llm: Any,
        prompts: ListwisePrompts,
        *,
        windows: Windows | None = None,
        view: Callable[[Passage], str] = attrgetter("contents"),
        every_rank: bool = False,
        spare_tokens: int = 8,
        batch_tokens: int | None = None,
    ) -> None:
        self.writer, self.prompts = TextDecoder(llm, prompts.builder.tokenizer), prompts
        self.windows, self.view = windows or Windows(), view
        self.every_rank, self.spare_tokens, self.batch_tokens = every_rank, spare_tokens, batch_tokens
        self.max_length = min(prompts.max_length, self.writer.positions)
        self._check_prompts()

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order, whatever the LLM generates."""
        queries = [SlidingQuery(candidates, self.windows) for candidates in batch]
        on_cpu = self.writer.device.type == "cpu"
        budget = self.batch_tokens or (self.batch_tokens_cpu if on_cpu else self.batch_tokens_gpu)
        with inference(self.writer.llm, self.writer.llm):
            return run_windows(queries, self._prepare, self._rank, budget)

    def check(self, candidates: Candidates) -> None:
        """Raise `BadInput` if the query is empty or too long for a window's prompt without texts."""
        for size in {span.size for span in SlidingQuery(candidates, self.windows).spans}:
            within = self.max_length - self._answer_tokens(size, size)
            self.prompts.rank(candidates.query.text, [""] * size, within=within)

    def _check_prompts(self) -> None:
        if self.prompts.template.letters:
            raise BadInput(
                f"{self.prompts.version} answers with one letter", remedy="use ranker=rank_llm, which has FIRST"
            )

    def _prepare(self, query: SlidingQuery) -> TextWindow:
        size, depth = query.spans[0].size, query.spans[0].depth
        asked = size if self.every_rank else min(depth, max(1, size - 1))  # the last of a whole window is forced
        room = self._answer_tokens(size, asked)
        texts = [self.view(passage) for passage in query.passages]
        return TextWindow(self.prompts.rank(query.text, texts, within=self.max_length - room), size, asked, room)

    def _answer_tokens(self, size: int, asked: int) -> int:
        """The token budget of an answer."""
        return self.prompts.answer_tokens(size) + self.spare_tokens

    def _rank(self, windows: list[TextWindow]) -> Iterator[tuple[Sequence[int], Bill]]:
        written = self.writer.write(
            [window.prompt.ids for window in windows],
            [window.answer_tokens for window in windows],
            lambda b, text: ranked_so_far(text, windows[b].size) >= windows[b].asked,
        )
        read, wrote = sum(len(window.prompt.ids) for window in windows), sum(written.tokens)
        for window, text, tokens in zip(windows, written.texts, written.tokens, strict=True):
            found, length = permutation(text, window.size, asked=window.asked), len(window.prompt.ids)
            bill = Bill(
                forwards=tokens,
                tokens_processed=length + tokens - 1,
                tokens_generated=tokens,
                seconds_prefill=written.seconds_prefill * length / read,
                seconds_decode=written.seconds_decode * tokens / wrote,
                repairs=found.repairs.total,
                texts_shortened=window.prompt.shortened,
            )
            yield found.order, bill
