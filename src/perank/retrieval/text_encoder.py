"""What retrieval asks of an encoder; `perank.model.encoders.encoder.Encoder` keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class TextEncoder(Protocol):
    """Texts -> unit vectors. `identity` names all that the vectors depend on: JSON values only."""

    @property
    def width(self) -> int:
        """E, the length of a vector."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int | bool]:
        """Name, pooling, prefixes, length, revision and whatever else tells two encoders apart."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Tensor [B, E] of unit vectors, fp32 on the CPU."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Any:
        """Tensor [B, E] of unit vectors, fp32 on the CPU."""
        ...
