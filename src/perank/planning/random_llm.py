"""An LLM of Mistral-7B's shape with random weights, created on its device, for speed measurements.

The acceptance rate of speculative drafts and the format of generated answers do depend on the weights; studies must
report this.
"""

from __future__ import annotations

from typing import Any

import torch

from perank.model import PERank, Projector


def random_mistral(
    vocabulary: int, *, width: int, device: str = "cpu", dtype: str = "bfloat16", **sizes: Any
) -> PERank:
    """Build an untrainable PE-Rank model (E = `width`) with Mistral-7B's layers and at least `vocabulary` tokens.

    `sizes` replace Mistral's (`num_hidden_layers`, `hidden_size`, ...). Scores have about the standard deviation of a
    trained model's.
    """
    from transformers import AutoModelForCausalLM, MistralConfig

    from perank.model import dtype_of

    config = MistralConfig(
        vocab_size=max(32_000, vocabulary),
        sliding_window=None,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        **sizes,
    )
    torch.manual_seed(0)
    kind = dtype_of(dtype, device)
    with torch.device(device):
        llm: Any = AutoModelForCausalLM.from_config(config, dtype=kind)
        projector = Projector(width, config.hidden_size).to(torch.promote_types(kind, torch.float32))
    return PERank(llm, projector).eval().requires_grad_(False)
