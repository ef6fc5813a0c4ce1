"""FIRST: a window's ranking from the logits of one token, the first identifier that the LLM would generate.

The prompt ends with an opening bracket; passages are sorted by the logit of their letter as the next token. This takes
one forward per window and no generation. The published model was trained for it; any local LLM can be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perank.baselines.text_listwise import TextListwise, TextWindow
from perank.errors import BadInput
from perank.model import ListwisePrompts
from perank.ranking.decoder import Clock
from perank.records import Bill

LETTERS = 26


class FirstToken(TextListwise):
    """A `Ranker` that reads one token's logits; ties keep their order. `batch_tokens`: 4,096 on a CPU, else 65,536.

    Raises `BadInput` for a window of more than 26 passages, for prompts whose identifiers aren't letters, and for a
    tokenizer that doesn't give every letter a separate token.
    """

    batch_tokens_cpu, batch_tokens_gpu = 4096, 65_536

    def _check_prompts(self) -> None:
        if self.windows.window > LETTERS:
            problem = f"a window of {self.windows.window} passages, there are {LETTERS} letters"
            raise BadInput(problem, remedy=f"set window.window to {LETTERS} or less")
        self.letters = letter_tokens(self.prompts)
        self.max_length = min(self.max_length, self.writer.positions - 1)

    def _answer_tokens(self, size: int, asked: int) -> int:
        return 0

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
    """The token id of each letter after the prompt. Raises `BadInput` if a letter has no separate token."""
    shape = prompts.template
    if not shape.letters:
        raise BadInput(f"the prompt {prompts.version!r} names passages by numbers", remedy="use the prompt 'first'")
    user = shape.message("query", ["text"])
    before, tokens = prompts.render(user).ids, list[int]()
    for position in range(LETTERS):
        after = prompts.render(user, shape.opening + shape.identifier(position)).ids
        if after[: len(before)] != before or len(after) != len(before) + 2:  # the letter and the end of the sequence
            problem = f"the tokenizer doesn't give {shape.identifier(position)!r} a token of its own behind the bracket"
            raise BadInput(problem, remedy="use the model's own tokenizer")
        tokens.append(after[len(before)])
    if len(set(tokens)) < LETTERS:
        raise BadInput("the tokenizer gives several letters the same token", remedy="use the model's own tokenizer")
    return tokens
