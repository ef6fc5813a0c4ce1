"""Cross-encoders: any Hugging Face sequence classifier over (query, text), as monoBERT and the MiniLM cross-encoder.

With one label its logit is the score; with two (monoBERT) the log-odds of the second, which sort like its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from perank.baselines.pointwise import Pair
from perank.errors import BadInput
from perank.model.batches import padded


class CrossEncoder:
    """A `PairScorer`. Texts are cut at their end to `max_length` tokens a pair, queries never.

    Raises `BadInput` for a classifier of more than two labels and a `max_length` beyond the model's positions.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int = 512) -> None:
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length
        labels, positions = model.config.num_labels, getattr(model.config, "max_position_embeddings", None)
        name = type(model).__name__
        if labels not in (1, 2):
            raise BadInput(f"a classifier of {labels} labels", remedy="use one with a score or yes and no", id=name)
        if positions is not None and max_length > positions:
            problem = f"max_length {max_length}, the model has {positions} positions"
            raise BadInput(problem, remedy="lower max_length", id=name)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def pair(self, query: str, text: str) -> Pair:
        whole = self._tokens(query, text)
        if len(whole["input_ids"]) <= self.max_length:
            return _pair(whole, shortened=False)
        if len(self._tokens(query, "")["input_ids"]) >= self.max_length:
            problem = f"the query leaves no room for a text in {self.max_length} tokens"
            raise BadInput(problem, remedy="raise max_length or shorten the query", id=query[:60])
        return _pair(self._tokens(query, text, truncation="only_second", max_length=self.max_length), shortened=True)

    @torch.inference_mode()
    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        ids = [pair.ids for pair in pairs]
        inputs = {
            "input_ids": padded(ids, self.tokenizer.pad_token_id or 0),
            "attention_mask": padded([[1] * len(row) for row in ids], 0),
        }
        if pairs[0].types:
            inputs["token_type_ids"] = padded([pair.types for pair in pairs], 0)
        logits_BC = self.model(**{key: value.to(self.device) for key, value in inputs.items()}).logits
        logits_BC = logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))
        scores_B = logits_BC[:, 0] if logits_BC.shape[1] == 1 else logits_BC[:, 1] - logits_BC[:, 0]
        found: list[float] = scores_B.tolist()
        return found

    def _tokens(self, query: str, text: str, **options: Any) -> Any:
        # A text that says [SEP] means five characters, not the token.
        return self.tokenizer(query, text, split_special_tokens=True, verbose=False, **options)


def _pair(tokens: Any, *, shortened: bool) -> Pair:
    return Pair(tuple(tokens["input_ids"]), tuple(tokens.get("token_type_ids", ())), shortened)
