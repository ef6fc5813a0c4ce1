"""A store's vectors on the device that searches them: kept there if they fit, else read in chunks in every pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from perank.retrieval.store import EmbeddingStore

_COPIED = 65_536  # vectors copied to the device at once
_SHARE = 0.7  # of the device's free memory; scores, chunks and models take the rest


class DeviceVectors:
    """Vectors of `store`, [N, E] in the store's dtype, for `device`.

    With `keep` they are copied to the device once, on first use (MS MARCO: 13.6 GB in fp16); None keeps them on a GPU
    with enough free memory. A CPU reads the mapped files, which the operating system keeps in memory if it can.
    """

    def __init__(self, store: EmbeddingStore, device: str = "cpu", *, keep: bool | None = None) -> None:
        self.store, self.device = store, torch.device(device)
        self._keep = self._fits() if keep is None else keep
        self._kept: Tensor | None = None

    def chunks(self, rows: int) -> Iterator[tuple[int, Tensor]]:
        """Yield (first row, vectors [R, E] in fp32 on the device) for all rows in order, R at most `rows`."""
        if self._keep:
            kept_NE = self._resident()
            for start in range(0, len(kept_NE), rows):
                yield start, kept_NE[start : start + rows].float()
        else:
            yield from ((start, vectors_RE.float()) for start, vectors_RE in self._copied(rows))

    def _copied(self, rows: int) -> Iterator[tuple[int, Tensor]]:
        for first, vectors_NE in self.store.shards():
            for start in range(0, len(vectors_NE), rows):
                part_RE = vectors_NE[start : start + rows].copy()  # PyTorch takes no read-only memory
                yield first + start, torch.from_numpy(part_RE).to(self.device)

    def _resident(self) -> Tensor:
        if self._kept is None:
            self._kept = torch.empty(len(self.store), self.store.width, dtype=self._dtype, device=self.device)
            for start, vectors_RE in self._copied(_COPIED):
                self._kept[start : start + len(vectors_RE)] = vectors_RE
        return self._kept

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float16 if self.store.manifest.dtype == "float16" else torch.float32

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return len(self.store) * self.store.width * self._dtype.itemsize <= _SHARE * free
