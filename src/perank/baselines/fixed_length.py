"""The time that text listwise reranking takes, without an LLM that was trained for it.

An LLM that doesn't know the format writes on, or stops early. To measure speed it is made to write exactly as
many tokens as a trained one's answer has: `[4] > [2] > ...`, as deep as it is read, and its end. The ranking means
nothing.
"""

from __future__ import annotations

from typing import Any

from perank.baselines.text_listwise import TextListwise


class FixedLengthListwise(TextListwise):
    """A `TextListwise` whose answers end when they are as long as they should be, whatever they say."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, spare_tokens=0, **options)
        self.writer.ends = set()

    def _answer_tokens(self, size: int, asked: int) -> int:
        return self.prompts.answer_tokens(asked)
