"""How long the sequences of a typical training row are, counted by the prompt builder that training uses.

If the LLM's tokenizer is unavailable, a stand-in counts: a piece is a run of up to eight letters, a digit, the blank
before one, a mark or a line break, about what Mistral's tokenizer makes of English (the paper's 326.9 tokens for 20
passages come out within a tenth).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from perank.errors import BadInput
from perank.model.align_prompt import align_example
from perank.model.llm import LLMSettings
from perank.model.prompts import SLOT, PromptBuilder
from perank.model.templates import ALIGN_INSTRUCTIONS

log = logging.getLogger(__name__)

_PIECE = re.compile(r"[^\W\d_]{1,8}|\d|[^\w\s]|_|\n|[^\S\n](?=\d)")


class StandInTokenizer:
    """As much of a tokenizer as `PromptBuilder` asks for; ids mean nothing, their number does."""

    unk_token_id, bos_token_id, eos_token_id = 0, 1, 2
    eos_token = "</s>"
    all_special_tokens = ("<unk>", "<s>", "</s>")

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        """Ids, and character spans."""
        spans = [match.span() for match in _PIECE.finditer(text)]
        return {"input_ids": [3] * len(spans), "offset_mapping": spans}

    def convert_tokens_to_ids(self, token: str) -> int:
        """Of a special token."""
        return self.all_special_tokens.index(token)

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **options: Any) -> str:
        """Mistral's."""
        return f"<s>[INST] {messages[0]['content']} [/INST]"


def tokenizer_of(llm: LLMSettings) -> Any:
    """The LLM's tokenizer, or the stand-in where that can't be reached."""
    try:
        return llm.tokenizer()
    except BadInput:
        log.warning("the tokenizer of %s can't be reached: tokens are estimated", llm.name)
        return StandInTokenizer()


def rank_lengths(
    builder: PromptBuilder, *, candidates: int, steps: int | None, texts: bool, query_tokens: int, passage_tokens: int
) -> list[int]:
    """[without texts] or [without, with]: the prompt and the ranks that follow it. Raises what the builder raises."""
    query, fed = _words(query_tokens), min(candidates, steps or candidates) - 1
    prompts = [builder.rank(query, candidates)]
    if texts:
        prompts.append(builder.rank_with_text(query, [_words(passage_tokens)] * candidates))
    return [len(prompt) + fed for prompt in prompts]


def align_length(builder: PromptBuilder, *, text_tokens: int, passage_tokens: int) -> int:
    """The longest instruction and a typical text."""
    pairs = [
        align_example(builder, instruction.format(slot=SLOT), _words(passage_tokens), text_tokens=text_tokens)
        for instruction in ALIGN_INSTRUCTIONS
    ]
    return max(len(prompt) + len(answer) for prompt, answer in pairs)


def _words(n: int) -> str:
    return " ".join(["the"] * n)  # a token each
