"""Llama's layers in about a third of the operations: the same products, norms and attention, equal up to rounding.

One product computes queries, keys and values, another gate and up. Rotary embedding is applied to queries and keys
together, from tables computed once per forward. Query heads that share keys become additional rows instead of
repeating the keys. Supported LLMs are listed by name; all others keep their own layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from perank.model import PackedLinear, PERank, pack_linears
from perank.ranking.static.layers import empty_kv
from perank.ranking.static.state import Bucket

_KNOWN = {"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"}


@dataclass(frozen=True, slots=True)
class LeanWeights:
    """One layer's parts; `norm_TW` scales the heads of queries and keys where the architecture norms them (Qwen3)."""

    norm: Any
    qkv: nn.Linear
    norm_TW: Tensor | None
    out: nn.Linear
    mlp_norm: Any
    gate_up: nn.Linear
    down: nn.Linear
    activation: Callable[[Tensor], Tensor]


def can_be_lean(model: PERank) -> bool:
    """Whether the layers are supported, frozen, of one dtype, and unmodified transformers layers."""
    decoder = model.decoder
    if type(decoder).__name__ not in _KNOWN or len({p.dtype for p in decoder.parameters()}) > 1:
        return False
    linears = [module for module in decoder.layers.modules() if hasattr(module, "in_features")]
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in decoder.modules())
    plain = all(type(linear) in (nn.Linear, PackedLinear) for linear in linears)
    return plain and not hooked and not any(p.requires_grad for p in decoder.parameters())


def lean_weights(model: PERank) -> list[LeanWeights] | None:
    """Copy the layers' weights in fused form; None if that isn't supported or the copy doesn't fit in memory.

    The copy is outdated when the model's weights change.
    """
    if not can_be_lean(model) or not _fits(model.decoder.layers):
        return None
    return [_fused_layer(layer) for layer in model.decoder.layers]


def _fits(layers: nn.Module) -> bool:
    """Whether the GPU has memory for the copies plus half as much for caches."""
    weights = list(layers.parameters())
    if weights[0].device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(weights[0].device)
    return free > 1.5 * sum(weight.nbytes for weight in weights)


def _fused_layer(layer: Any) -> LeanWeights:
    attention, mlp = layer.self_attn, layer.mlp
    scales = []  # one per head of queries and keys
    for name in ("q", "k"):
        if (norm := getattr(attention, f"{name}_norm", None)) is not None:
            heads = getattr(attention, f"{name}_proj").out_features // attention.head_dim
            scales.append(norm.weight.expand(heads, -1))
    return LeanWeights(
        norm=layer.input_layernorm,
        qkv=_fused(attention.q_proj, attention.k_proj, attention.v_proj),
        norm_TW=torch.cat(scales) if scales else None,
        out=attention.o_proj,
        mlp_norm=layer.post_attention_layernorm,
        gate_up=_fused(mlp.gate_proj, mlp.up_proj),
        down=mlp.down_proj,
        activation=mlp.act_fn,
    )


def _fused(*linears: nn.Linear) -> nn.Linear:
    """Concatenate the rows of several linear layers with the same input."""
    made = nn.Linear(1, 1, bias=linears[0].bias is not None, device="meta").requires_grad_(False)
    made.in_features, made.out_features = linears[0].in_features, sum(linear.out_features for linear in linears)
    made.weight = nn.Parameter(torch.cat([linear.weight for linear in linears]), requires_grad=False)
    if linears[0].bias is not None:
        made.bias = nn.Parameter(torch.cat([linear.bias for linear in linears]), requires_grad=False)
    fused: nn.Linear = pack_linears(made) if type(linears[0]) is PackedLinear else made
    return fused


class LeanLayers:
    """`Layers` over fused weights. T counts the heads of queries and keys, G the query heads that share a key head."""

    def __init__(self, model: PERank, weights: list[LeanWeights], bucket: Bucket) -> None:
        self.decoder, self.weights = model.decoder, weights
        self.kv, self.nodes = empty_kv(model, bucket), bucket.nodes
        attention = model.decoder.layers[0].self_attn
        self.scale, self.groups = attention.scaling, attention.num_key_value_groups

    def read(self, embedded_BLD: Tensor, rows: slice, start: int = 0) -> Tensor:
        """See `Layers.read`."""
        stop = start + embedded_BLD.shape[1]
        position_1L, mask_11XM = torch.arange(start, stop, device=embedded_BLD.device)[None], None
        if start:
            seen_1LM = torch.arange(stop, device=embedded_BLD.device) <= position_1L[..., None]
            mask_11XM = self._mask(seen_1LM, embedded_BLD.dtype)

        def attend(layer: int, queries_BLHW: Tensor, keys_BLHW: Tensor, values_BLHW: Tensor) -> Tensor:
            kv_BM2HW = self.kv[layer, rows]
            kv_BM2HW[:, start:stop, 0], kv_BM2HW[:, start:stop, 1] = keys_BLHW, values_BLHW
            if mask_11XM is not None:
                return self._attended(queries_BLHW, kv_BM2HW[:, :stop], mask_11XM)
            queries_BHLW, keys_BHLW, values_BHLW = (
                one.transpose(1, 2) for one in (queries_BLHW, keys_BLHW, values_BLHW)
            )
            seen_BHLW = scaled_dot_product_attention(
                queries_BHLW, keys_BHLW, values_BHLW, is_causal=True, scale=self.scale, enable_gqa=True
            )
            return seen_BHLW.transpose(1, 2).flatten(2)

        return self._hidden(embedded_BLD, position_1L, attend)

    def append(self, fed_BKD: Tensor, position_BK: Tensor, seen_BKM: Tensor) -> Tensor:
        """See `Layers.append`."""
        mask_B1XM = self._mask(seen_BKM, fed_BKD.dtype)

        def attend(layer: int, queries_BKHW: Tensor, keys_BKHW: Tensor, values_BKHW: Tensor) -> Tensor:
            kv_BM2HW = self.kv[layer]
            kv_BM2HW[:, -self.nodes :, 0], kv_BM2HW[:, -self.nodes :, 1] = keys_BKHW, values_BKHW
            return self._attended(queries_BKHW, kv_BM2HW, mask_B1XM)

        return self._hidden(fed_BKD, position_BK, attend)

    def _mask(self, seen_BKM: Tensor, dtype: torch.dtype) -> Tensor:
        mask_BKM = torch.zeros_like(seen_BKM, dtype=dtype).masked_fill(~seen_BKM, -torch.inf)
        return mask_BKM.repeat(1, self.groups, 1)[:, None]

    def _attended(self, queries_BKHW: Tensor, kv_BM2HW: Tensor, mask_B1XM: Tensor) -> Tensor:
        batch, size = queries_BKHW.shape[:2]
        keys_BHMW, values_BHMW = kv_BM2HW.permute(2, 0, 3, 1, 4).unbind()
        grouped_BHGKW = queries_BKHW.unflatten(2, (-1, self.groups)).permute(0, 2, 3, 1, 4)
        seen_BHXW = scaled_dot_product_attention(
            *(grouped_BHGKW.flatten(2, 3), keys_BHMW, values_BHMW), attn_mask=mask_B1XM, scale=self.scale
        )
        return seen_BHXW.unflatten(2, (self.groups, size)).permute(0, 3, 1, 2, 4).reshape(batch, size, -1)

    def _hidden(self, x_BXD: Tensor, position_BX: Tensor, attend: Callable[..., Tensor]) -> Tensor:
        cos_BXW, sin_BXW = self.decoder.rotary_emb(x_BXD, position_ids=position_BX)
        half = cos_BXW.shape[-1] // 2
        cos_BX1W = cos_BXW[:, :, None]
        sin_BX1W = torch.cat([-sin_BXW[..., :half], sin_BXW[..., half:]], dim=-1)[:, :, None]
        kv_heads = self.kv.shape[4]
        for number, layer in enumerate(self.weights):
            heads_BXHW = layer.qkv(_normed(x_BXD, layer.norm)).unflatten(2, (-1, cos_BXW.shape[-1]))
            turned_BXTW, values_BXHW = heads_BXHW[:, :, :-kv_heads], heads_BXHW[:, :, -kv_heads:]
            if layer.norm_TW is not None:
                turned_BXTW = _rms(turned_BXTW, self.decoder.norm.variance_epsilon) * layer.norm_TW
            turned_BXTW = torch.addcmul(turned_BXTW * cos_BX1W, turned_BXTW.roll(half, -1), sin_BX1W)
            queries_BXHW, keys_BXHW = turned_BXTW[:, :, :-kv_heads], turned_BXTW[:, :, -kv_heads:]
            x_BXD = layer.out(attend(number, queries_BXHW, keys_BXHW, values_BXHW)).add_(x_BXD)
            gate_BXF, up_BXF = layer.gate_up(_normed(x_BXD, layer.mlp_norm)).chunk(2, dim=-1)
            x_BXD = layer.down(layer.activation(gate_BXF).mul_(up_BXF)).add_(x_BXD)
        hidden_BXD: Tensor = self.decoder.norm(x_BXD)
        return hidden_BXD


def _normed(x_BXD: Tensor, norm: Any) -> Tensor:
    if x_BXD.dtype == torch.float64:
        return _rms(x_BXD, norm.variance_epsilon) * norm.weight
    return rms_norm(x_BXD, x_BXD.shape[-1:], norm.weight, norm.variance_epsilon)


def _rms(x_BXD: Tensor, epsilon: float) -> Tensor:
    """RMS normalisation in fp32, as in transformers, also for fp64 and bf16 models."""
    return rms_norm(x_BXD.float(), x_BXD.shape[-1:], eps=epsilon).to(x_BXD.dtype)
