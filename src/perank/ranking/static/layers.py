"""The LLM's layers over a KV cache of fixed shape: accepted tokens first, the draft of this forward at the end.

A draft is always written to the same entries, whatever a row's length; a mask selects the visible ones. So writing is a
plain copy, and keeping accepted tokens is one gather and one scatter for all layers.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from perank.errors import BadInput
from perank.ranking.kv_cache import Transformer, as_argument, as_mask, continuation
from perank.ranking.static.state import Bucket


class Layers(Protocol):
    """`kv` is [layers, B, M, 2, H, W]: keys and values, H heads of width W; M is `bucket.entries` + `bucket.nodes`."""

    kv: Tensor

    def read(self, embedded_BLD: Tensor, rows: slice, start: int = 0) -> Tensor:
        """hidden_BLD of these rows' right-padded prompts from token `start` on, whose keys and values fill the cache.

        Those of the tokens before are in its first entries.
        """
        ...

    def append(self, fed_BKD: Tensor, position_BK: Tensor, seen_BKM: Tensor) -> Tensor:
        """hidden_BKD of a draft of K nodes at `position_BK` of their sequence, which see the entries `seen_BKM`."""
        ...


def empty_kv(model: Transformer, bucket: Bucket) -> Tensor:
    """Zeros, because unwritten entries are masked, but a weight of 0 times NaN is NaN."""
    config, table = model.decoder.config, model.llm.get_input_embeddings().weight
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return table.new_zeros(config.num_hidden_layers, bucket.rows, bucket.entries + bucket.nodes, 2, heads, width)


class HuggingFaceLayers:
    """The model's own decoder, of any architecture; its layers access `kv` through the `Cache` interface."""

    def __init__(self, model: Transformer, bucket: Bucket) -> None:
        self.model, self.kv = model, empty_kv(model, bucket)
        self.cache = _Cache(self.kv, bucket.nodes)

    def read(self, embedded_BLD: Tensor, rows: slice, start: int = 0) -> Tensor:
        """See `Layers.read`."""
        self.cache.rows, self.cache.start = rows, start
        return self._hidden(embedded_BLD, **continuation(embedded_BLD, start, self.model.decoder.config))

    def append(self, fed_BKD: Tensor, position_BK: Tensor, seen_BKM: Tensor) -> Tensor:
        """See `Layers.append`."""
        self.cache.rows = None
        mask_B1KM = as_mask(seen_BKM[:, None], self.model.decoder.config, fed_BKD.dtype)
        return self._hidden(fed_BKD, attention_mask=mask_B1KM, position_ids=position_BK)

    def _hidden(self, embedded_BXD: Tensor, **options: Tensor) -> Tensor:
        hidden_BXD: Tensor = self.model.decoder(
            inputs_embeds=embedded_BXD, **as_argument(self.cache, self.model.decoder), **options
        ).last_hidden_state
        return hidden_BXD


class _Cache(Cache):
    """`rows`: the rows whose prompts are read now, from token `start` on; None: drafts are appended."""

    def __init__(self, kv: Tensor, nodes: int) -> None:
        self.rows: slice | None = None
        self.start = 0
        self.nodes = nodes
        super().__init__(layers=[_Layer(self, kv_BM2HW) for kv_BM2HW in kv.unbind()])


class _Layer(CacheLayerMixin):
    def __init__(self, cache: _Cache, kv_BM2HW: Tensor) -> None:
        super().__init__()
        self.cache, self.kv_BM2HW = cache, kv_BM2HW
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values [B, H, X, W]: a prompt's unchanged, or after cached ones, a draft's after all."""
        new_BX2HW = torch.stack([key_states, value_states], dim=1).permute(0, 3, 1, 2, 4)
        if new_BX2HW.shape[3:] != self.kv_BM2HW.shape[3:]:
            problem = f"a layer's keys have shape {list(new_BX2HW.shape[3:])}, not {list(self.kv_BM2HW.shape[3:])}"
            raise BadInput(problem, remedy="choose decoding=speculative")
        rows = self.cache.rows
        if rows is not None:
            start, stop = self.cache.start, self.cache.start + new_BX2HW.shape[1]
            self.kv_BM2HW[rows, start:stop] = new_BX2HW
            if not start:
                return key_states, value_states
            seen_BM2HW = self.kv_BM2HW[rows, :stop]
        else:
            self.kv_BM2HW[:, -self.cache.nodes :] = new_BX2HW
            seen_BM2HW = self.kv_BM2HW
        keys_BHMW, values_BHMW = seen_BM2HW.permute(2, 0, 3, 1, 4).unbind()
        return keys_BHMW, values_BHMW

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0  # only called before the prompts are read; later calls pass explicit positions

    def get_max_length(self) -> int:
        return self.kv_BM2HW.shape[1]

    def get_max_cache_shape(self) -> int:
        return self.kv_BM2HW.shape[1]
