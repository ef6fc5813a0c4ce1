"""monoT5: an encoder-decoder asked `Query: ... Document: ... Relevant:`; the score is true against false.

The first word it would write decides: the logit of `true` minus that of `false`, the log-odds of its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from perank.baselines.pointwise import Pair
from perank.errors import BadInput
from perank.model.batches import padded
from perank.model.prompts import PromptBuilder, clean


class MonoT5:
    """A `PairScorer`. Documents are cut at their end to `max_length` tokens a prompt, the rest of it never.

    Raises `BadInput` for a tokenizer that begins both answers with the same token.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int = 512) -> None:
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length
        self.pieces = PromptBuilder(tokenizer)
        self.true, self.false = (self._ids(word)[0] for word in ("true", "false"))
        if self.true == self.false:
            raise BadInput("'true' and 'false' begin alike", remedy="use the model's own tokenizer")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def pair(self, query: str, text: str) -> Pair:
        query, text = clean(query), clean(text)
        ids, kept = self._prompt(query, text), text
        while len(ids) > self.max_length:
            if not kept:
                problem = f"the query leaves no room for a text in {self.max_length} tokens"
                raise BadInput(problem, remedy="raise max_length or shorten the query", id=query[:60])
            kept = self.pieces.cut(kept, max(0, self.pieces.count(kept) - (len(ids) - self.max_length)))
            ids = self._prompt(query, kept)
        return Pair(ids, shortened=kept != text)

    @torch.inference_mode()
    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        ids = [pair.ids for pair in pairs]
        start = self.model.config.decoder_start_token_id
        logits_BV = self.model(
            input_ids=padded(ids, self.tokenizer.pad_token_id or 0).to(self.device),
            attention_mask=padded([[1] * len(row) for row in ids], 0).to(self.device),
            decoder_input_ids=torch.full((len(ids), 1), start, device=self.device),
        ).logits[:, 0]
        logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
        found: list[float] = (logits_BV[:, self.true] - logits_BV[:, self.false]).tolist()
        return found

    def _prompt(self, query: str, text: str) -> tuple[int, ...]:
        ids = self._ids(f"Query: {query} Document: {text} Relevant:")
        return (*ids, self.tokenizer.eos_token_id)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids
