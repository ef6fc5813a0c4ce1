"""SPLADE encoders: a text as weights of vocabulary entries, from any Hugging Face masked LM trained for it.

w_v = max over the text's tokens (special ones too) of log(1 + relu(logit_v)) (SPLADE-max, Formal et al. 2021); a
passage's score is the inner product with the query. The vocabulary head, most of the cost of a small model, runs on
1,024 columns at a time, and the maximum is taken before bias and logarithm, which are monotone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from perank.errors import BadInput
from perank.model.encoders.token_batches import length_batches

_COLUMNS = 1024  # of the head at a time: [tokens, 1024] stays in the processor's cache
_SMALLEST = 1e-3  # smaller weights are left out
_KEPT = 200_000  # texts whose vectors are kept, about 2 KB each


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Vocabulary entries [K] and their weights [K] in fp32; `tokens` read and the `seconds` that they took."""

    entries: np.ndarray
    weights: np.ndarray
    tokens: int
    seconds: float

    @property
    def length(self) -> float:
        """The Euclidean length."""
        return float(np.linalg.norm(self.weights))


class SparseEncoder:
    """Encode texts of at most `max_length` tokens, special ones included; longer ones are truncated.

    The body of `model` keeps its dtype, the head has `dtype`. `batch_tokens` includes padding (None: 1,024 on a CPU,
    else 16,384). Vectors are kept, so that a text is encoded once. Raises `BadInput` for a model without vocabulary
    head, a `max_length` beyond the model's positions, and a text without tokens.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int = 256,
        dtype: torch.dtype = torch.float32,
        batch_tokens: int | None = None,
    ) -> None:
        positions, name = getattr(model.config, "max_position_embeddings", None), type(model).__name__
        least = tokenizer.num_special_tokens_to_add() + 1
        if not least <= max_length <= (positions or max_length):
            remedy = f"choose {least} to {positions}"
            raise BadInput(f"max_length is {max_length}, with {positions} positions", remedy=remedy, id=name)
        self.tokenizer, self.max_length = tokenizer, max_length
        self.device = next(model.parameters()).device
        self.batch_tokens = batch_tokens or (1024 if self.device.type == "cpu" else 16_384)
        self.body, head = _without_head(model)
        self._columns = [part.contiguous() for part in head.weight.detach().to(dtype).split(_COLUMNS)]
        self._bias_V = torch.zeros(len(head.weight)) if head.bias is None else head.bias.detach().float().cpu()
        self._kept: dict[str, SparseVector] = {}

    @property
    def width(self) -> int:
        """V, the size of the vocabulary."""
        return len(self._bias_V)

    def encode(self, texts: Sequence[str]) -> list[SparseVector]:
        """Return one vector per text, in their order."""
        if len(self._kept) + len(texts) > _KEPT:
            self._kept.clear()
        self._encode([text for text in dict.fromkeys(texts) if text not in self._kept])
        return [self._kept[text] for text in texts]

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> None:
        if not texts:
            return
        ids = self.tokenizer(
            texts, truncation=True, max_length=self.max_length, split_special_tokens=True, verbose=False
        )["input_ids"]
        if [] in ids:
            raise BadInput("a text has no token", remedy="give it a text", id=texts[ids.index([])][:60])
        for chosen in length_batches([len(row) for row in ids], self.batch_tokens):
            began, tokens = time.perf_counter(), sum(len(ids[i]) for i in chosen)
            weights_BV = self._weights([ids[i] for i in chosen])
            rate = (time.perf_counter() - began) / tokens
            for i, weights_V in zip(chosen, weights_BV, strict=True):
                entries = np.flatnonzero(weights_V > _SMALLEST)
                kept = SparseVector(entries, weights_V[entries], len(ids[i]), rate * len(ids[i]))
                self._kept[texts[i]] = kept

    def _weights(self, ids: list[list[int]]) -> np.ndarray:
        """Return weights [B, V] of token ids."""
        length, pad = max(map(len, ids)), self.tokenizer.pad_token_id or 0
        ids_BL = torch.tensor([row + [pad] * (length - len(row)) for row in ids], device=self.device)
        mask_BL = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids], device=self.device)
        hidden_BLD = self.body(input_ids=ids_BL, attention_mask=mask_BL).logits
        # Padding repeats the first token, which doesn't change the maximum.
        hidden_BLD = torch.where(mask_BL[..., None] > 0, hidden_BLD, hidden_BLD[:, :1]).to(self._columns[0].dtype)
        best = [(hidden_BLD @ part.T).amax(dim=1) for part in self._columns]
        logits_BV = torch.cat(best, dim=1).float().cpu() + self._bias_V
        weights_BV: np.ndarray = logits_BV.relu().log1p().numpy()
        return weights_BV


def inner_products(query: SparseVector, passages: Sequence[SparseVector], width: int) -> np.ndarray:
    """Return the inner products [N] of a query with passages, over `width` vocabulary entries, in fp64."""
    query_V = np.zeros(width)
    query_V[query.entries] = query.weights
    return np.array([query_V[passage.entries] @ passage.weights for passage in passages])


def _without_head(model: Any) -> tuple[Any, Any]:
    """Return the model, whose logits are now the head's inputs, and the head: [V, D] weights and a bias."""
    head = model.get_output_embeddings()
    name = next((name for name, part in model.named_modules() if part is head), None)
    if name is None or not isinstance(head, nn.Linear):
        problem = f"{type(model).__name__} has no vocabulary head"
        raise BadInput(problem, remedy="use a masked language model", id=model.config.model_type)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return model, head
