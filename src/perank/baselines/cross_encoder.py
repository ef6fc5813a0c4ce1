"""Cross-encoders: any Hugging Face sequence classifier over (query, text), such as monoBERT and MiniLM cross-encoders.

With one label the score is its logit; with two (monoBERT) the log-odds of the second, which sort like its probability.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from perank.baselines.pointwise import Pair, PairScorer
from perank.errors import BadInput
from perank.model.encoders.weights import token_positions
from perank.model.locate import EXCLUSIVE


class CrossEncoder(PairScorer):
    """Scores of a classifier. Raises `BadInput` for more than two labels or a `max_length` beyond its positions."""

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int = 512) -> None:
        super().__init__(model, tokenizer, max_length=max_length)
        labels, positions = model.config.num_labels, token_positions(model)
        # Tokenizers without a class of their own return segments for models that have none, or one.
        takes = "token_type_ids" in inspect.signature(model.forward).parameters
        self.has_segments = takes and getattr(model.config, "type_vocab_size", 2) > 1
        name = type(model).__name__
        if labels not in (1, 2):
            raise BadInput(f"a classifier of {labels} labels", remedy="use one with a score or yes and no", id=name)
        if positions is not None and max_length > positions:
            problem = f"max_length {max_length}, the model has positions for {positions} tokens"
            raise BadInput(problem, remedy="lower max_length", id=name)

    def pair(self, query: str, text: str) -> Pair:
        whole = self._tokens(query, text)
        if len(whole["input_ids"]) <= self.max_length:
            return self._pair(whole, shortened=False)
        if len(self._tokens(query, "")["input_ids"]) >= self.max_length:
            raise self._no_room(query)
        return self._pair(
            self._tokens(query, text, truncation="only_second", max_length=self.max_length), shortened=True
        )

    def _scores(self, inputs: Mapping[str, Tensor]) -> Tensor:
        logits_BC = self.model(**inputs).logits
        logits_BC = logits_BC.to(torch.promote_types(logits_BC.dtype, torch.float32))
        return logits_BC[:, 0] if logits_BC.shape[1] == 1 else logits_BC[:, 1] - logits_BC[:, 0]

    def _tokens(self, query: str, text: str, **options: Any) -> Any:
        # "[SEP]" in a text is ordinary text, not the special token.
        with EXCLUSIVE:
            return self.tokenizer(query, text, split_special_tokens=True, verbose=False, **options)

    def _pair(self, tokens: Any, *, shortened: bool) -> Pair:
        types = tokens.get("token_type_ids", ()) if self.has_segments else ()
        return Pair(tuple(tokens["input_ids"]), tuple(types), shortened)
