"""Loading encoder weights so that nothing is silently random: every missing or unexpected key is an error.

The trap this closes: `jinaai/jina-embeddings-v2-base-en` calls itself `model_type: bert`. Loaded as plain BERT it
gives wrong vectors without an error; its ALiBi positions and gated MLPs need `jina_bert.JinaBert`.
"""

from __future__ import annotations

from typing import Any

import torch

from perank.errors import BadInput
from perank.model.encoders.static_vectors import StaticVectors, is_static
from perank.model.locate import reading

# A pooling head that sentence embeddings never use, and buffers older libraries saved.
_HARMLESS = ("pooler.", "position_ids", "cls.predictions", "cls.seq_relationship", "lm_head.", "qa_outputs.")


def load_encoder_weights(
    path: str, *, revision: str | None, dtype: torch.dtype, trust_remote_code: bool = False
) -> Any:
    """A `PreTrainedModel`-like module with `.config` and `last_hidden_state` output, in `dtype`, on the CPU.

    Raises `BadInput` where the checkpoint can't be read or its keys are not exactly the architecture's.
    """
    if is_static(path):
        return StaticVectors.from_folder(path, dtype)
    from transformers import AutoConfig, AutoModel

    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code}
    with reading(path):
        config = AutoConfig.from_pretrained(path, **options)
    if getattr(config, "position_embedding_type", None) == "alibi" and not trust_remote_code:
        from perank.model.encoders.jina_bert import JinaBert

        return JinaBert.from_pretrained(path, revision=revision, dtype=dtype)
    with reading(path):
        model, info = AutoModel.from_pretrained(path, **options, dtype=dtype, output_loading_info=True)
    wrong = {
        kind: [key for key in info[f"{kind}_keys"] if not any(part in key for part in _HARMLESS)]
        for kind in ("missing", "unexpected", "mismatched")
    }
    if any(wrong.values()):
        listed = "; ".join(f"{kind}: {', '.join(map(str, keys[:3]))}" for kind, keys in wrong.items() if keys)
        raise BadInput(
            f"these weights are not a whole {type(model).__name__} ({listed})",
            remedy="use the architecture the weights were made for",
            id=path,
        )
    return model
