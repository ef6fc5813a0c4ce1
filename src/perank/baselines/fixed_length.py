"""Text listwise reranking by an LLM that was never taught to: the time it takes, not the ranking it gives.

An LLM that doesn't know the format writes on, or stops early. For measuring speed it is made to write exactly as many
tokens as the answer has that a taught one would write: `[4] > [2] > ...`, as deep as somebody looks, and its end.
"""

from __future__ import annotations

from typing import Any

from perank.baselines.sliding import Sliding, needed
from perank.baselines.text_listwise import TextListwise


class FixedLengthListwise(TextListwise):
    """A `TextListwise` whose answers end when they are as long as they should be, whatever they say."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, spare_tokens=0, **options)
        self.writer.ends = set()

    def _budget(self, job: Sliding, wave: int) -> int:
        span = job.spans[wave]
        return self.prompts.answer_tokens(span.stop - span.start if self.every_rank else needed(span))
