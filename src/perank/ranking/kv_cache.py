"""A KV cache for a batch of sequences that grow by different amounts and may remove tokens.

Entry m of a row is its m-th token, independently of other rows: padding and rejected drafts are overwritten by the
row's next tokens, so there are no gaps and the tensors keep their shape. Drafts are stored after the last accepted
token until they are moved to their final entries. The last entry is never read; padding of uneven appends goes there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from inspect import signature
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from perank.errors import BadInput


class Transformer(Protocol):
    """A causal LM and its part below the vocabulary head; `PERank` has this interface."""

    @property
    def llm(self) -> Any:
        """The Hugging Face model."""
        ...

    @property
    def decoder(self) -> Any:
        """The transformer whose last hidden states are after the final norm."""
        ...


class KVCache:
    """`read` the prompts once, then `append` vectors; both return hidden states.

    A row has at most `tokens` tokens; `drafts` more entries store tokens that may be rejected. Raises `BadInput` for an
    LLM whose layers see fewer than `tokens`, have a recurrent state, or use an attention that takes no mask.
    """

    def __init__(self, model: Transformer, tokens: int, drafts: int = 0) -> None:
        check_llm(model.llm, tokens)
        self.model = model
        self.cache = _RowCache(model.decoder.config.num_hidden_layers, tokens + drafts + 1)

    def read(self, embedded_BLD: Tensor, lengths: Sequence[int], known: Sequence[Tensor | None] = ()) -> Tensor:
        """hidden_BD of the last token of right-padded sequences; with causal attention padding needs no mask.

        `known` are keys and values of each row's first tokens, as from `first`, which are copied instead of read. On a
        CPU a few rows are read at a time, so that activations stay in its cache.
        """
        self.cache.entry_BK, self.cache.batch = None, len(lengths)
        self._write(known)
        starts = [0 if kv is None else kv.shape[1] for kv in known or [None] * len(lengths)]
        tokens = 512 if embedded_BLD.device.type == "cpu" else embedded_BLD.shape[:2].numel()
        last: list[Tensor] = []
        for rows in _chunks([end - start for end, start in zip(lengths, starts, strict=True)], tokens):
            ends, start = lengths[rows], min(starts[rows])
            self.cache.rows, self.cache.start, self.cache.reach = rows, start, max(ends)
            read_BLD = embedded_BLD[rows, start : max(ends)]
            hidden_BLD = self.model.decoder(
                inputs_embeds=read_BLD,
                **as_argument(self.cache, self.model.decoder),
                **continuation(read_BLD, start, self.model.decoder.config),
            ).last_hidden_state
            last += [hidden_BLD[row, end - 1 - start] for row, end in enumerate(ends)]
        return torch.stack(last)

    def first(self, row: int, tokens: int) -> Tensor | None:
        """Keys and values [layers, P, 2, H, W] of a row's first P tokens; None unless all have the same shape."""
        kept = [states[row, :, :tokens] for layer in self.cache.written for states in (layer.keys, layer.values)]
        if len({states.shape for states in kept}) > 1:
            return None
        return torch.stack(kept).unflatten(0, (-1, 2)).permute(0, 3, 1, 2, 4).contiguous()

    def _write(self, known: Sequence[Tensor | None]) -> None:
        given = [(row, kv_JP2HW.permute(0, 2, 3, 1, 4)) for row, kv_JP2HW in enumerate(known) if kv_JP2HW is not None]
        for row, kv_J2HPW in given:
            for layer, (keys_HPW, values_HPW) in zip(self.cache.written, kv_J2HPW, strict=True):
                if not layer.is_initialized:
                    layer.lazy_initialization(keys_HPW[None], values_HPW[None])
                layer.keys[row, :, : keys_HPW.shape[1]] = keys_HPW
                layer.values[row, :, : keys_HPW.shape[1]] = values_HPW

    def append(self, fed_BKD: Tensor, entry_BK: Tensor, position_BK: Tensor, seen_BKM: Tensor) -> Tensor:
        """hidden_BKD of vectors written to `entry_BK` (-1: padding), at `position_BK` of their sequence.

        `seen_BKM` marks which of the first M entries each of them sees.
        """
        self.cache.entry_BK, self.cache.reach = entry_BK, seen_BKM.shape[2]
        return self.model.decoder(
            inputs_embeds=fed_BKD,
            attention_mask=as_mask(seen_BKM[:, None], self.model.decoder.config, fed_BKD.dtype),
            position_ids=position_BK,
            **as_argument(self.cache, self.model.decoder),
        ).last_hidden_state

    def move(self, from_BK: Tensor, to_BK: Tensor) -> None:
        """Copy entries `from_BK` to `to_BK`; -1 in both is padding."""
        rows_B1 = torch.arange(len(from_BK), device=from_BK.device)[:, None]
        for layer in self.cache.written:
            for states in (layer.keys, layer.values):
                states[rows_B1, :, to_BK] = states[rows_B1, :, from_BK]

    def keep(self, rows: Tensor) -> None:
        """Keep these rows only."""
        for layer in self.cache.written:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]


def as_argument(cache: Cache, decoder: Any) -> dict[str, Any]:
    """A KV cache as keyword arguments of a decoder's `forward`."""
    kind: Any = type(decoder)
    return {_name_of_cache(kind): cache, "use_cache": True}


@cache
def _name_of_cache(kind: Any) -> str:
    """transformers 5.24 renamed the argument in most models, and warns of its former name."""
    return "cache" if "cache" in signature(kind.forward).parameters else "past_key_values"


class _RowCache(Cache):
    """A Hugging Face cache whose layers write to `entry_BK` (None: to some `rows` from entry `start`)."""

    def __init__(self, layers: int, entries: int) -> None:
        self.written = [_RowLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self.written))
        self.entries = entries
        self.entry_BK: Tensor | None = None
        self.rows, self.batch, self.start, self.reach = slice(0), 0, 0, 0


class _RowLayer(CacheLayerMixin):
    keys: Any
    values: Any

    def __init__(self, cache: _RowCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads = self.cache.batch, key_states.shape[1]
        # Zeros, because unwritten entries are masked, but a weight of 0 times NaN is NaN.
        self.keys = key_states.new_zeros(batch, heads, self.cache.entries, key_states.shape[-1])
        self.values = value_states.new_zeros(batch, heads, self.cache.entries, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        entry_BK, reach = self.cache.entry_BK, self.cache.reach
        if entry_BK is None:
            rows, start = self.cache.rows, self.cache.start
            self.keys[rows, :, start:reach], self.values[rows, :, start:reach] = key_states, value_states
            return (self.keys[rows, :, :reach], self.values[rows, :, :reach]) if start else (key_states, value_states)
        rows_B1 = torch.arange(len(entry_BK), device=entry_BK.device)[:, None]
        self.keys[rows_B1, :, entry_BK] = key_states.transpose(1, 2)
        self.values[rows_B1, :, entry_BK] = value_states.transpose(1, 2)
        return self.keys[:, :, :reach], self.values[:, :, :reach]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0  # only called before the prompts are read; later calls pass explicit positions

    def get_max_length(self) -> int:
        return self.cache.entries

    def get_max_cache_shape(self) -> int:  # its name in earlier releases of transformers 5
        return self.cache.entries


def _chunks(lengths: Sequence[int], tokens: int) -> Iterator[slice]:
    """Slices of adjacent rows with at most `tokens` tokens including padding, or single rows."""
    start, longest = 0, 0
    for row, length in enumerate(lengths):
        longest = max(longest, length)
        if row > start and longest * (row + 1 - start) > tokens:
            yield slice(start, row)
            start, longest = row, length
    yield slice(start, len(lengths))


def as_mask(seen_B1KM: Tensor, config: Any, dtype: torch.dtype) -> Tensor:
    """Return a boolean mask for sdpa, an additive one for eager attention."""
    if config._attn_implementation == "sdpa":
        return seen_B1KM
    return torch.zeros_like(seen_B1KM, dtype=dtype).masked_fill(~seen_B1KM, torch.finfo(dtype).min)


def continuation(read_BSD: Tensor, start: int, config: Any) -> dict[str, Tensor]:
    """The decoder's mask and positions for tokens from `start` on, which see all before; none are needed from 0 on."""
    if not start:
        return {}
    position_S = torch.arange(start, start + read_BSD.shape[1], device=read_BSD.device)
    seen_SL = torch.arange(start + read_BSD.shape[1], device=read_BSD.device) <= position_S[:, None]
    mask_B1SL = as_mask(seen_SL.expand(len(read_BSD), 1, -1, -1), config, read_BSD.dtype)
    return {"attention_mask": mask_B1SL, "position_ids": position_S.expand(len(read_BSD), -1)}


def check_llm(llm: Any, tokens: int) -> None:
    config, name = llm.get_decoder().config, type(llm).__name__
    if config._attn_implementation not in ("sdpa", "eager"):
        problem = f"attention {config._attn_implementation!r} takes no mask of its own"
        raise BadInput(problem, remedy="load the LLM with attention sdpa or eager", id=name)
    if getattr(llm, "_is_stateful", False):
        raise BadInput("a recurrent state can't take tokens back", remedy="use an LLM with full attention", id=name)
    sliding = getattr(config, "sliding_window", None)
    reach = {"full_attention": tokens, "sliding_attention": sliding or 0}
    reach["chunked_attention"] = getattr(config, "attention_chunk_size", None) or 0
    for kind in getattr(config, "layer_types", None) or ["sliding_attention" if sliding else "full_attention"]:
        if reach.get(kind, 0) < tokens:
            problem = f"a layer's {kind.replace('_', ' ')} sees {reach.get(kind, 0)} tokens, {tokens} are needed"
            raise BadInput(problem, remedy="use a smaller window or an LLM with full attention", id=name)
    positions = getattr(config, "max_position_embeddings", None) or tokens
    if positions < tokens:
        problem = f"the LLM has {positions} positions, prompt and ranking take {tokens}"
        raise BadInput(problem, remedy="use a smaller window", id=name)
