"""Latency measurement of text listwise reranking with an LLM that was not trained for it.

An untrained LLM writes too much or stops early. To measure speed it generates exactly as many tokens as a trained one's
answer has: `[4] > [2] > ...`, as deep as it is read, and the end of the sequence. The ranking is meaningless.
"""

from __future__ import annotations

from typing import Any

from perank.baselines.text_listwise import TextListwise


class FixedLengthListwise(TextListwise):
    """A `TextListwise` whose answers all have the expected length, whatever their content."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, spare_tokens=0, **options)
        self.writer.ends = set()

    def _answer_tokens(self, size: int, asked: int) -> int:
        return self.prompts.answer_tokens(asked)
