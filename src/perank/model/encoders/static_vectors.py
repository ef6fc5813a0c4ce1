"""Static word vectors as an encoder: a text is the mean of its tokens' rows in one table (`pypi:wordllama`).

The PyPI package ships the table (32,000 tokens, 256 numbers each, fp16) and a Hugging Face tokenizer. Both are copied
once to a cache folder in the layout that encoders are loaded from; the package itself is never imported.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from perank.errors import BadInput
from perank.files import cache_dir, folder_made_once, read_json, write_json

CONFIG, WEIGHTS, _TABLE = "static.json", "model.safetensors", "embedding.weight"


class StaticVectors(nn.Module):
    """A table [V, E] with the interface that `Encoder` expects of a model: `last_hidden_state` [B, L, E]."""

    def __init__(self, table_VE: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(table_VE)
        tokens, width = table_VE.shape
        self.config = SimpleNamespace(vocab_size=tokens, hidden_size=width, max_position_embeddings=None)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=self.embedding(input_ids))

    @classmethod
    def from_folder(cls, folder: str | Path, dtype: torch.dtype) -> StaticVectors:
        """Load a folder written by `static_folder`. Raises `BadInput` if the table doesn't match its config."""
        from safetensors.torch import load_file

        state, shape = load_file(Path(folder) / WEIGHTS), read_json(Path(folder) / CONFIG).get("shape")
        if list(state) != [_TABLE] or list(state[_TABLE].shape) != shape:
            raise BadInput(f"expected a table {_TABLE} of shape {shape}", remedy="remove the folder", path=folder)
        return cls(state[_TABLE].to(dtype))


def is_static(path: str | Path) -> bool:
    """Whether `path` is a folder of static vectors."""
    return (Path(path) / CONFIG).is_file()


def static_folder(package: Path) -> Path | None:
    """Copy a package's table and tokenizer to a cache folder once, and return it; None if it ships none."""
    tables = sorted(package.glob("weights/*.safetensors"))
    tokenizers = sorted(package.glob("tokenizers/*.json"))
    if not tables or not tokenizers:
        return None
    target = cache_dir() / "weights" / f"{tables[0].stem}-{tables[0].stat().st_size}"
    return folder_made_once(target, partial(_copy, tables[0], tokenizers[0]))


def _copy(table: Path, tokenizer: Path, folder: Path) -> None:
    from safetensors import safe_open

    shutil.copyfile(table, folder / WEIGHTS)
    with safe_open(table, framework="pt") as file:
        shape = list(file.get_slice(_TABLE).get_shape())
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    content["post_processor"] = None  # the mean is over the text's own tokens, without <s>
    write_json(folder / "tokenizer.json", content)
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special})
    write_json(folder / CONFIG, {"shape": shape})
