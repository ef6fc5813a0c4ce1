"""FIRST: a window's ranking from the logits of one token, the first identifier the LLM would write.

The prompt ends with an opened bracket; passages are sorted by how likely their letter comes next. One forward a window,
nothing is written. The published model was trained for it; any local LLM can be asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from perank.baselines.text_listwise import TextWindow
from perank.errors import BadInput
from perank.model.listwise_prompts import ListwisePrompts
from perank.ranking.decoder import Clock
from perank.ranking.inference import inference
from perank.ranking.sliding import SlidingQuery, run_windows
from perank.ranking.text_decoding import TextDecoder
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
        view: TextView | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.writer, self.prompts = TextDecoder(llm, prompts.builder.tokenizer), prompts
        self.windows, self.view = windows or Windows(), view or Field()
        self.batch_tokens = batch_tokens or (4096 if self.writer.device.type == "cpu" else 65_536)
        if self.windows.window > LETTERS:
            problem = f"a window of {self.windows.window} passages, there are {LETTERS} letters"
            raise BadInput(problem, remedy="use window=w20s10")
        self.letters = letter_tokens(prompts)
        self.max_length = min(prompts.max_length, self.writer.positions - 1)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, in its order."""
        queries = [SlidingQuery(candidates, self.windows) for candidates in batch]
        with inference(self.writer.llm, self.writer.llm):
            return run_windows(queries, self._prepare, self._rank, self.batch_tokens)

    def _prepare(self, query: SlidingQuery) -> TextWindow:
        texts = [self.view(passage) for passage in query.passages]
        return TextWindow(self.prompts.rank(query.text, texts, within=self.max_length), len(texts))

    def _rank(self, windows: list[TextWindow]) -> Iterator[tuple[Sequence[int], Bill]]:
        clock = Clock(self.writer.device)
        scores_BN = self.writer.next_logits([window.prompt.ids for window in windows])[:, self.letters]
        seconds, tokens = clock.lap(), sum(len(window.prompt.ids) for window in windows)
        for window, scores_N in zip(windows, scores_BN, strict=True):
            bill = Bill(
                forwards=1,
                tokens_processed=len(window.prompt.ids),
                tokens_generated=1,
                seconds_prefill=seconds * len(window.prompt.ids) / tokens,
                texts_shortened=window.prompt.shortened,
            )
            yield scores_N[: window.size].sort(descending=True, stable=True).indices.tolist(), bill


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
