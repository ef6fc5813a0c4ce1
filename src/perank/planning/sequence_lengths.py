"""Sequence lengths of a typical training row, from the prompt builder that training uses.

If the LLM's tokenizer is unavailable, tokens are estimated: one per run of up to eight letters, digit, space before a
digit, punctuation mark or line break. This approximates Mistral's tokenizer on English (within 10% of the paper's 326.9
tokens for 20 passages).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from perank.errors import BadInput
from perank.model import ALIGN_INSTRUCTIONS, SLOT, LLMSettings, PromptBuilder, align_example

log = logging.getLogger(__name__)

_PIECE = re.compile(r"[^\W\d_]{1,8}|\d|[^\w\s]|_|\n|[^\S\n](?=\d)")


class StandInTokenizer:
    """The part of a tokenizer that `PromptBuilder` uses; only the number of ids is meaningful."""

    unk_token_id, bos_token_id, eos_token_id = 0, 1, 2
    eos_token = "</s>"
    all_special_tokens = ("<unk>", "<s>", "</s>")
    chat_template = "see apply_chat_template"

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        """Return ids and character spans."""
        spans = [match.span() for match in _PIECE.finditer(text)]
        return {"input_ids": [3] * len(spans), "offset_mapping": spans}

    def convert_tokens_to_ids(self, token: str) -> int:
        """Return the id of a special token."""
        return self.all_special_tokens.index(token)

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **options: Any) -> str:
        """Apply Mistral's template."""
        return f"<s>[INST] {messages[0]['content']} [/INST]"


def tokenizer_of(llm: LLMSettings) -> Any:
    """Load the LLM's tokenizer, or return the stand-in if it is unavailable."""
    try:
        return llm.tokenizer()
    except BadInput:
        log.warning("the tokenizer of %s is unavailable: estimating token counts", llm.name)
        return StandInTokenizer()


def rank_lengths(
    builder: PromptBuilder, *, candidates: int, steps: int | None, texts: bool, query_tokens: int, passage_tokens: int
) -> list[int]:
    """Tokens of prompt and ranks as [without texts] or [without, with]. Raises what the builder raises."""
    query, fed = _words(query_tokens), min(candidates, steps or candidates) - 1
    prompts = [builder.rank(query, candidates)]
    if texts:
        prompts.append(builder.rank_with_text(query, [_words(passage_tokens)] * candidates))
    return [len(prompt) + fed for prompt in prompts]


def align_length(builder: PromptBuilder, *, text_tokens: int, passage_tokens: int) -> int:
    """Tokens of the longest instruction and a typical text."""
    pairs = [
        align_example(builder, instruction.format(slot=SLOT), _words(passage_tokens), text_tokens=text_tokens)
        for instruction in ALIGN_INSTRUCTIONS
    ]
    return max(len(prompt) + len(answer) for prompt, answer in pairs)


def _words(n: int) -> str:
    return " ".join(["the"] * n)  # one token per word
