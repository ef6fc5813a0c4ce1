"""An encoder that several processes share: the first reads, sorts and writes; all encode a part of each batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perank.records import Identity, TextEncoder


class SharedEncoder:
    """Encode with all processes: the first calls `encode_passages` and finally `close`; the others call `serve`.

    `fabric` is a launched Lightning Fabric.
    """

    def __init__(self, encoder: TextEncoder, fabric: Any) -> None:
        self._encoder, self._fabric = encoder, fabric

    @property
    def width(self) -> int:
        return self._encoder.width

    @property
    def identity(self) -> Identity:
        return self._encoder.identity

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return self._encoder.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> Any:
        """Return unit vectors [B, E] in the order of `texts`, in fp32 on the CPU."""
        if self._fabric.world_size == 1:
            return self._encoder.encode_passages(texts)
        return self._share(self._fabric.broadcast(list(texts)))

    def shortened(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the encoder reads; never, for an encoder that can't tell."""
        tell = getattr(self._encoder, "shortened", None)
        return [False] * len(texts) if tell is None else list(tell(texts))

    def serve(self) -> None:
        """Encode parts of the first process's batches until it calls `close`."""
        while (texts := self._fabric.broadcast(None)) is not None:
            self._share(texts)

    def close(self) -> None:
        """Stop the other processes."""
        if self._fabric.world_size > 1:
            self._fabric.broadcast(None)

    def _share(self, texts: list[str]) -> Tensor:
        # Every world_size-th text balances lengths between processes; gathering needs equal sizes, so parts are padded.
        mine = texts[self._fabric.global_rank :: self._fabric.world_size]
        rows_RE = torch.zeros(-(-len(texts) // self._fabric.world_size), self.width)
        if mine:
            rows_RE[: len(mine)] = self._encoder.encode_passages(mine)
        all_WRE: Tensor = self._fabric.all_gather(rows_RE.to(self._fabric.device))
        return all_WRE.transpose(0, 1).reshape(-1, self.width)[: len(texts)].cpu()
