"""Vectors of a request's documents: given, from the mounted store by id, or encoded and remembered by text.

Used by the engine's thread alone.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.ranking.vectors import given_vectors
from perank.records import Passage, Vectors
from perank.serving.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest:
    """A query and documents, best first; those at positions in `given` have vectors, in `by_id` only ids."""

    query: str
    passages: tuple[Passage, ...]
    given: Mapping[int, Sequence[float]] = field(default_factory=dict)
    by_id: frozenset[int] = frozenset()
    top_k: int | None = None

    @property
    def texts(self) -> dict[int, str]:
        """Position -> text of the documents that are encoded."""
        chosen = self.given.keys() | self.by_id
        return {i: passage.contents for i, passage in enumerate(self.passages) if i not in chosen}


class Embedding:
    """Vectors by text, the least recently used of which are forgotten beyond `capacity`; vectors by id in `store`."""

    def __init__(self, encoder: Any, store: Vectors | None, capacity: int, metrics: Metrics) -> None:
        self.encoder, self.store, self.capacity, self.metrics = encoder, store, capacity, metrics
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def encode(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the vector [E] of each text; those not remembered are encoded together."""
        keys = {text: _key(text) for text in texts}
        found = {text: self._known[key] for text, key in keys.items() if key in self._known}
        missing = [text for text in keys if text not in found]
        self.metrics.looked_up(len(found), len(missing))
        if missing:
            vectors = torch.as_tensor(self.encoder.encode_passages(missing)).float()
            found |= {text: vectors[i].clone() for i, text in enumerate(missing)}
        for text, key in keys.items():
            self._known[key] = found[text]
            self._known.move_to_end(key)
        while len(self._known) > self.capacity:
            self._known.popitem(last=False)
        return found

    def vectors(self, request: RankRequest, encoded: Mapping[str, Tensor]) -> Tensor:
        """Return the vectors of a request [N, E], fp32, with those of its texts in `encoded`.

        Raises `BadInput` for an unknown id, ids without a store, and given vectors that aren't of unit length, finite
        and of the encoder's width.
        """
        vectors_NE = torch.empty(len(request.passages), self.encoder.width)
        for position, text in request.texts.items():
            vectors_NE[position] = encoded[text]
        if request.by_id:
            positions = sorted(request.by_id)
            vectors_NE[positions] = self._stored([request.passages[i].id for i in positions])
        if request.given:
            given_NE = given_vectors([*request.given.values()], self.encoder.width, of="document")
            vectors_NE[[*request.given]] = given_NE
        return vectors_NE

    def _stored(self, ids: Sequence[str]) -> Tensor:
        if self.store is None:
            raise BadInput("documents were named by id, but no store is mounted", remedy="send their texts", id=ids[0])
        try:
            return torch.as_tensor(self.store.get(ids))
        except BadInput as error:
            raise BadInput("not in the mounted store", remedy="check the id, or send the text", id=error.id) from error


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=20).digest()
