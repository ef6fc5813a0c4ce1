"""monoT5: an encoder-decoder with the prompt `Query: ... Document: ... Relevant:`.

The score is the first output token's logit of `true` minus that of `false`, the log-odds of relevance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from perank.baselines.pointwise import Pair, PairScorer
from perank.errors import BadInput
from perank.model import PromptBuilder, clean

_PROMPT = "Query: {query} Document: {text} Relevant:"


class MonoT5(PairScorer):
    """A T5 as scorer. Raises `BadInput` if the tokenizer begins both answers with the same token."""

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int = 512) -> None:
        super().__init__(model, tokenizer, max_length=max_length)
        self.pieces = PromptBuilder(tokenizer)
        self.true, self.false = (self._ids(word)[0] for word in ("true", "false"))
        if self.true == self.false:
            raise BadInput("'true' and 'false' begin with the same token", remedy="use the model's own tokenizer")

    def pair(self, query: str, text: str) -> Pair:
        query, text = clean(query), clean(text)
        ids, kept = self._prompt(query, text), text
        while len(ids) > self.max_length:
            if not kept:
                raise self._no_room(query)
            kept = self.pieces.cut(kept, max(0, self.pieces.count(kept) - (len(ids) - self.max_length)))
            ids = self._prompt(query, kept)
        return Pair(ids, shortened=kept != text)

    def _whole(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        prompts = [_PROMPT.format(query=clean(query), text=clean(text)) for query, text in asked]
        rows = self.tokenizer(prompts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [Pair((*ids, self.tokenizer.eos_token_id)) for ids in rows]

    def _scores(self, inputs: Mapping[str, Tensor]) -> Tensor:
        begin_B1 = torch.full_like(inputs["input_ids"][:, :1], self.model.config.decoder_start_token_id)
        logits_BV = self.model(**inputs, decoder_input_ids=begin_B1).logits[:, 0]
        logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
        return logits_BV[:, self.true] - logits_BV[:, self.false]

    def _prompt(self, query: str, text: str) -> tuple[int, ...]:
        ids = self._ids(_PROMPT.format(query=query, text=text))
        return (*ids, self.tokenizer.eos_token_id)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids
