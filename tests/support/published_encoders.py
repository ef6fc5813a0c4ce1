"""Tiny random encoders of several families, saved as people publish them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from support import tiny

POSITIONS = 40
_SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"max_position_embeddings": POSITIONS, "pad_token_id": 3},
    "roberta": {"max_position_embeddings": POSITIONS, "pad_token_id": 3, "type_vocab_size": 1},
    "xlm-roberta": {"max_position_embeddings": POSITIONS, "pad_token_id": 3, "type_vocab_size": 1},
    "mpnet": {"max_position_embeddings": POSITIONS, "pad_token_id": 3},
    "modernbert": {
        "max_position_embeddings": POSITIONS, "pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2,
        "cls_token_id": 1, "sep_token_id": 2, "global_attn_every_n_layers": 2, "local_attention": 8,
    },
    "distilbert": {
        "max_position_embeddings": POSITIONS, "pad_token_id": 3, "dim": 16, "hidden_dim": 24, "n_layers": 2,
        "n_heads": 2,
    },
}  # fmt: skip
# Tokens that have a position: of the others, `padding_idx + 1` positions are no token's (MPNet's padding_idx is 1).
_LESS = {"roberta": 4, "xlm-roberta": 4, "mpnet": 2}
READ = {family: POSITIONS - _LESS.get(family, 0) for family in FAMILIES}


def save_family(folder: Path, family: str, *, labels: int | None = None) -> Path:
    """A random encoder, or with `labels` a random classifier, and its tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    options = {"vocab_size": len(tiny.tiny_tokenizer()), "initializer_range": 0.5, **_SIZES, **FAMILIES[family]}
    config = AutoConfig.for_model(family, **options, **({} if labels is None else {"num_labels": labels}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make: Any = AutoModel if labels is None else AutoModelForSequenceClassification
        make.from_config(config).eval().save_pretrained(folder)
    tiny.tiny_tokenizer(bert=True).save_pretrained(folder)
    return folder


def describe(folder: Path, *, pooling: str = "mean_tokens", dense: int | None = None, **prompts: str) -> Path:
    """Write the files of sentence-transformers: this pooling, a Dense layer of this width, these prompts."""
    kind = "sentence_transformers.models."
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Dense", "Dense")] if dense else [])]
    modules.append((f"{len(modules)}_Normalize", "Normalize"))
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind + name} for i, (path, name) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    for path, _ in modules:
        (folder / path).mkdir(exist_ok=True)
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    settings = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **settings}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 30, "do_lower_case": False}))
    if dense:
        _save_dense(folder / "2_Dense", dense)
    return folder


def _save_dense(folder: Path, width: int) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(1)
    activation = "torch.nn.modules.activation.Tanh"
    config = {"in_features": 16, "out_features": width, "bias": True, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {"linear.weight": torch.randn(width, 16), "linear.bias": torch.randn(width)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
