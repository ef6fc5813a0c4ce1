"""JinaBERT v2 (`jinaai/jina-embeddings-v2-*`), for which transformers has no class: last hidden states only.

A post-norm BERT body with two changes: no position table but symmetric ALiBi, -slope_h * |i - j| added to the scaled
scores of every layer, and a GEGLU MLP, W_o(gelu(a) * b) with the exact erf GELU, whose two halves a, b come from one
bias-free matrix. Parameters are named as in the published checkpoints, so torch's strict loading compares keys and
shapes. Those checkpoints are fp16 and have `model_type: bert`, so every setting is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from perank.errors import BadInput
from perank.files import read_json

_REQUIRED = {"position_embedding_type": "alibi", "feed_forward_type": "geglu"}
_REMEDY = "name a JinaBERT v2 checkpoint (ALiBi and GEGLU)"


@dataclass(frozen=True, slots=True, kw_only=True)
class JinaBertConfig:
    """The sizes of a JinaBERT, named as in its config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    type_vocab_size: int
    layer_norm_eps: float = 1e-12

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read config.json. Raises `BadInput` if it describes another architecture or is incomplete."""
        found = read_json(path)
        if not isinstance(found, dict):
            raise BadInput(f"expected a JSON object, found {type(found).__name__}", remedy=_REMEDY, path=path)
        for key, value in _REQUIRED.items():
            if found.get(key) != value:
                raise BadInput(f"{key} must be {value!r}, found {found.get(key)!r}", remedy=_REMEDY, path=path)
        names = (field.name for field in fields(cls) if field.name != "layer_norm_eps")
        sizes: dict[str, Any] = {name: found.get(name) for name in names}
        for name, size in sizes.items():
            if type(size) is not int or size < 1:
                raise BadInput(f"{name} must be a positive integer, found {size!r}", remedy=_REMEDY, path=path)
        eps = found.get("layer_norm_eps", 1e-12)
        if not isinstance(eps, float) or not 0 < eps < 1:
            raise BadInput(f"layer_norm_eps must be between 0 and 1, found {eps!r}", remedy=_REMEDY, path=path)
        config = cls(**sizes, layer_norm_eps=eps)
        if config.hidden_size % config.num_attention_heads:
            problem = f"hidden_size {config.hidden_size} is no multiple of {config.num_attention_heads} heads"
            raise BadInput(problem, remedy=_REMEDY, path=path)
        return config


class JinaBertOutput(NamedTuple):
    """`last_hidden_state` [B, L, H]; rows of padded positions are undefined."""

    last_hidden_state: Tensor


class JinaBert(nn.Module):
    """Token ids [B, L] -> hidden states [B, L, H]. The weights set no length limit; memory grows with heads * L^2."""

    embeddings: Any  # Any: a ModuleDict's values are untyped
    encoder: Any

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        H, eps = config.hidden_size, config.layer_norm_eps
        self.config = config
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config.vocab_size, H),
                "token_type_embeddings": nn.Embedding(config.type_vocab_size, H),
                "LayerNorm": nn.LayerNorm(H, eps),
            }
        )
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self._bias_1HLL = torch.empty(0)

    @classmethod
    def from_pretrained(
        cls, path: str, *, revision: str | None = None, dtype: torch.dtype = torch.float32, **hub: Any
    ) -> JinaBert:
        """Load a folder or Hub id (safetensors only), cast to `dtype`, in eval mode on the CPU.

        `hub` are options of the download. Raises `BadInput` for another architecture and for any missing, unexpected or
        misshapen weight.
        """
        config = JinaBertConfig.read(_file(path, "config.json", revision, hub))
        weights = _file(path, "model.safetensors", revision, hub)
        with torch.device("meta"):  # skips random initialisation
            model = cls(config)
        state = {key: value.to(dtype) for key, value in _read(weights).items()}
        try:
            model.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as error:
            remedy = "use the architecture the weights were made for"
            raise BadInput(f"these weights are not a whole JinaBERT: {error}", remedy=remedy, path=weights) from error
        return model.eval().requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> JinaBertOutput:
        """`attention_mask` [B, L] is 1 for tokens and 0 for padding; None means there is no padding."""
        type_0 = self.embeddings["token_type_embeddings"].weight[0]
        hidden_BLH = self.embeddings["LayerNorm"](self.embeddings["word_embeddings"](input_ids) + type_0)
        bias = self._bias(input_ids.shape[1], hidden_BLH)
        if attention_mask is not None and not attention_mask.all():
            bias = bias.masked_fill(attention_mask[:, None, None] == 0, float("-inf"))
        for layer in self.encoder["layer"]:
            hidden_BLH = layer(hidden_BLH, bias)
        return JinaBertOutput(hidden_BLH)

    def _bias(self, length: int, like: Tensor) -> Tensor:
        """ALiBi for `length` tokens, sliced from the largest bias built so far."""
        bias = self._bias_1HLL
        if bias.shape[-1] < length or bias.dtype != like.dtype or bias.device != like.device:
            bias = alibi_bias(self.config.num_attention_heads, length).to(like.device, like.dtype)
            self._bias_1HLL = bias
        return bias[..., :length, :length]


class _Layer(nn.Module):
    attention: Any
    mlp: Any

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        H, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(H, H) for name in ("query", "key", "value")}),
                "output": nn.ModuleDict({"dense": nn.Linear(H, H), "LayerNorm": nn.LayerNorm(H, eps)}),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gated_layers": nn.Linear(H, 2 * config.intermediate_size, bias=False),
                "wo": nn.Linear(config.intermediate_size, H),
                "layernorm": nn.LayerNorm(H, eps),
            }
        )

    def forward(self, hidden_BLH: Tensor, bias: Tensor) -> Tensor:
        project, out = self.attention["self"], self.attention["output"]
        query, key, value = (
            project[name](hidden_BLH).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, L, d]
            for name in ("query", "key", "value")
        )
        bias = bias.expand(len(hidden_BLH), -1, -1, -1)
        mixed_BLH = scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).flatten(2)
        hidden_BLH = out["LayerNorm"](out["dense"](mixed_BLH) + hidden_BLH)
        gated, plain = self.mlp["gated_layers"](hidden_BLH).chunk(2, dim=-1)
        return self.mlp["layernorm"](self.mlp["wo"](gelu(gated) * plain) + hidden_BLH)


def alibi_slopes(heads: int) -> Tensor:
    """[heads], fp64: 2^(-8i/p) for the largest power of two p <= heads, then every other slope of the 2p list.

    The extra slopes are appended, neither sorted in nor halved (Press et al. 2022, and the published code).
    """
    power = 1 << (heads.bit_length() - 1)
    first = [8 * (i + 1) / power for i in range(power)]
    extra = [8 * (2 * m + 1) / (2 * power) for m in range(heads - power)]
    return torch.tensor(first + extra, dtype=torch.float64).neg().exp2()


def alibi_bias(heads: int, length: int) -> Tensor:
    """-slope_h * |i - j|, [1, heads, length, length], fp32."""
    positions = torch.arange(length, dtype=torch.float32)
    distance_LL = (positions[:, None] - positions).abs()
    return -alibi_slopes(heads).float()[None, :, None, None] * distance_LL


def _file(path: str, name: str, revision: str | None, hub: Mapping[str, Any]) -> str:
    from transformers.utils.hub import cached_file

    try:
        return str(cached_file(path, name, revision=revision or "main", **hub))
    except OSError as error:
        raise BadInput(f"no {name}: {error}", remedy="name a folder or Hub model that has one", id=path) from error


def _read(weights: str) -> dict[str, Tensor]:
    """The checkpoint's tensors without the `bert.` prefix and the unused pooling head."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(weights)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise BadInput(f"not a whole safetensors file: {error}", remedy="fetch it again", path=weights) from error
    bare = {key.removeprefix("bert."): value for key, value in state.items()}
    return {key: value for key, value in bare.items() if not key.startswith("pooler.")}
