"""Load an encoder's weights, all of them, and find out how many tokens it reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from perank.errors import BadInput
from perank.model.encoders.static_vectors import StaticVectors, is_static
from perank.model.locate import reading

# A pooling head that sentence embeddings never use, and buffers older libraries saved.
_UNUSED_WEIGHTS = ("pooler.", "position_ids", "cls.predictions", "cls.seq_relationship", "lm_head.", "qa_outputs.")


def load_encoder_weights(
    path: str, *, revision: str | None, dtype: torch.dtype, trust_remote_code: bool = False, **hub: Any
) -> Any:
    """Load a `PreTrainedModel`-like module with `.config` and `last_hidden_state` output, in `dtype`, on the CPU.

    No weight may be randomly initialised. `jinaai/jina-embeddings-v2-base-en` has `model_type: bert`: loaded as plain
    BERT it gives wrong vectors without an error. `hub` are options of the download. Raises `BadInput` if the checkpoint
    can't be read or its keys differ from the architecture's.
    """
    if is_static(path):
        return StaticVectors.from_folder(path, dtype)
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": trust_remote_code, **hub}
    with reading(path):
        config = AutoConfig.from_pretrained(path, **options)
    if getattr(config, "position_embedding_type", None) == "alibi" and not trust_remote_code:
        from perank.model.encoders.jina_bert import JinaBert

        return JinaBert.from_pretrained(path, revision=revision, dtype=dtype, **hub)
    loads = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel  # T5 without its decoder
    with reading(path):
        model, info = loads.from_pretrained(path, **options, dtype=dtype, output_loading_info=True)
    unused = (*_UNUSED_WEIGHTS, "decoder.") if config.is_encoder_decoder else _UNUSED_WEIGHTS
    wrong = {
        kind: [key for key in info[f"{kind}_keys"] if not any(part in str(key) for part in unused)]
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


def token_positions(model: Any) -> int | None:
    """How many tokens of a text, special ones included, have a position; None if any number has.

    RoBERTa, XLM-RoBERTa, MPNet and others number tokens from `padding_idx + 1` on, so that the first positions that
    `max_position_embeddings` counts are no token's.
    """
    most = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1
    return most if most is None or most > 0 else None
