"""An LLM of Mistral-7B's shape with random weights, made where it runs: for speed, which doesn't depend on weights.

What does depend on them is how many drafts of speculation are right, and whether an LLM writes what it was asked for:
studies have to state it.
"""

from __future__ import annotations

from typing import Any

import torch

from perank.model.pe_rank import PERank
from perank.model.projector import Projector


def random_mistral(
    tokenizer: Any, *, width: int, device: str = "cpu", dtype: str = "bfloat16", layers: int = 32
) -> Any:
    """A PE-Rank model [E = `width`] over Mistral-7B's layers, with rows enough for the tokenizer; nothing trainable.

    Scores have about the deviation of a trained model's.
    """
    from transformers import AutoModelForCausalLM, MistralConfig

    from perank.model.precision import dtype_of

    config = MistralConfig(
        num_hidden_layers=layers,
        vocab_size=max(32_000, len(tokenizer)),
        sliding_window=None,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    torch.manual_seed(0)
    kind = dtype_of(dtype, device)
    with torch.device(device):
        llm: Any = AutoModelForCausalLM.from_config(config, dtype=kind)
        projector = Projector(width, config.hidden_size).to(torch.promote_types(kind, torch.float32))
    return PERank(llm, projector).eval().requires_grad_(False)
