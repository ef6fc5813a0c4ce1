"""Cross entropy over the LLM's vocabulary (Eq. 3), computed only where a token is predicted, a block at a time.

Logits are the largest tensor of a training step: one per token of the vocabulary, with an fp32 copy and the gradients
of both. Blocks are recomputed in the backward pass, so that only one block's logits exist at any time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from perank.model.batches import IGNORE
from perank.model.losses import reconstruction

BLOCK = 1024  # positions whose logits are held at once


def token_loss(llm: Any, hidden_BLD: Tensor, targets_BL: Tensor) -> Tensor:
    """Mean cross entropy over all targets that aren't -100; the hidden state at l - 1 predicts the target at l."""
    predicted_BL = targets_BL[:, 1:] != IGNORE
    hidden_XD, targets_X = hidden_BLD[:, :-1][predicted_BL], targets_BL[:, 1:][predicted_BL]
    blocks = zip(hidden_XD.split(BLOCK), targets_X.split(BLOCK), strict=True)
    sums = [checkpoint(_summed, llm, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    return torch.stack(sums).sum() / len(targets_X)


def vocabulary_logits(llm: Any, hidden_XD: Tensor) -> Tensor:
    """Return what a causal LM makes of its last hidden states: [X, V], with the scaling or cap of its family."""
    logits_XV, config = llm.get_output_embeddings()(hidden_XD), llm.config
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits_XV = logits_XV * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits_XV = logits_XV / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        logits_XV = torch.tanh(logits_XV / cap) * cap
    return logits_XV


def _summed(llm: Any, hidden_XD: Tensor, targets_X: Tensor) -> Tensor:
    return reconstruction(vocabulary_logits(llm, hidden_XD)[None], targets_X[None]) * len(targets_X)
