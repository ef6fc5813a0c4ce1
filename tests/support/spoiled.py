"""Ways to spoil a checkpoint in the authors' layout, and what reading it has to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
WORD_TABLE = "model.encoder.encoder.embeddings.word_embeddings.weight"
SPOILED_TENSORS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "no norm": (lambda t: t.pop("model.norm.weight"), "missing: .*model.norm.weight"),
    "no layer 1": (lambda t: [t.pop(key) for key in list(t) if ".layers.1." in key], "num_hidden_layers is 2.*holds 1"),
    "one more layer": (lambda t: t.update({"model.layers.2.x": torch.zeros(1)}), "num_hidden_layers is 2.*holds 3"),
    "no projector": (lambda t: [t.pop(k) for k in list(t) if "projector" in k], "missing: .*0.weight"),
    "third projector layer": (lambda t: t.update({"model.projector.4.bias": torch.zeros(32)}), "unknown: .*4.bias"),
    "no encoder": (lambda t: [t.pop(k) for k in list(t) if ".encoder.encoder." in k], "tensor names differ"),
    "an adapter": (lambda t: t.update({"model.lora_A.weight": torch.zeros(2)}), "unknown: .*lora_A"),
    "misshapen": (lambda t: t.update({"model.norm.weight": torch.ones(31)}), r"expected .*\[32\], found .*\[31\]"),
    "whole numbers": (
        lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int32)}),
        "found torch.int32",
    ),
    "narrow projector": (lambda t: t.update({"model.projector.0.weight": torch.ones(32, 15)}), "width in is 15"),
    "not a number": (lambda t: t["model.layers.0.mlp.up_proj.weight"].fill_(torch.nan), "aren't finite"),
    "infinite": (lambda t: t["model.projector.2.weight"].fill_(torch.inf), "aren't finite"),
    "another encoder": (
        lambda t: t[WORD_TABLE].mul_(1.1),
        "weights differ",
    ),
}

SPOILED_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "plain mistral": ({"model_type": "mistral"}, "expected embed_<family"),
    "unknown family": ({"model_type": "embed_unheard"}, "expected embed_<family"),
    "no projector": ({"use_proj": False}, "expected mlp2x_gelu"),
    "linear projector": ({"projector_type": "linear"}, "expected mlp2x_gelu"),
    "unknown pooling": ({"encoder_pooling": "max"}, "mean, cls, last_token"),
    "other pooling": ({"encoder_pooling": "cls"}, "its pooling is mean"),
    "other width": ({"embedding_size": 15}, "width in is 16, expected 15"),
    "text for width": ({"embedding_size": "16"}, "embedding_size must be a int"),
    "no encoder": ({"encoder_name": None}, "encoder_name must be a str"),
    "too many layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "wide": ({"hidden_size": 64}, "expected"),
    "larger vocabulary": ({"vocab_size": 500}, "expected"),
    "negative length": ({"tokenizer_model_max_length": -1}, "is -1, expected >= 1"),
    "heads that don't divide": ({"num_attention_heads": 7, "head_dim": None}, "config"),
    "null": ({"hidden_act": "unheard"}, "config"),
}
