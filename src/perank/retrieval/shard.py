"""One shard (file) of an EmbeddingStore: vectors, ids, and a sorted index of the ids' hashes.

Layout, little endian: vectors [N, E] in fp16 or fp32, zeros up to a multiple of 8 bytes, offsets uint64 [N + 1] into
the ids' UTF-8, hashes uint64 [N] ascending, rows uint64 [N] in the hashes' order, the ids' UTF-8. A shard is written
next to its target and renamed, so an existing file is complete unless it was damaged later, which the manifest's size
and checksum detect.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from perank.errors import BadInput
from perank.files import atomic_write

_U64 = np.dtype("<u8")


def hash_ids(ids: Sequence[str]) -> np.ndarray:
    """64-bit BLAKE2b of each id: uint64 [N]."""
    digests = (hashlib.blake2b(_utf8(id), digest_size=8).digest() for id in ids)
    return np.frombuffer(b"".join(digests), dtype=_U64)


@dataclass(frozen=True, slots=True)
class HashIndex:
    """Ascending hashes, uint64 [N], and their rows. Ids with equal hashes are distinguished by comparing the ids."""

    hashes_N: np.ndarray
    rows_N: np.ndarray

    @classmethod
    def of(cls, hashes_N: np.ndarray) -> HashIndex:
        """Build the index from the hashes in row order."""
        rows_N = np.argsort(hashes_N, kind="stable")
        return cls(hashes_N[rows_N], rows_N.astype(_U64))

    @classmethod
    def map(cls, path: Path, rows: int) -> HashIndex:
        """Memory-map the index in a separate file."""
        both = np.frombuffer(_mapped(path), dtype=_U64, count=2 * rows)
        return cls(both[:rows], both[rows:])

    def hashes_by_row(self) -> np.ndarray:
        """Return the hashes in row order: uint64 [N]."""
        hashes_N = np.empty_like(self.hashes_N)
        hashes_N[self.rows_N] = self.hashes_N
        return hashes_N

    def buffers(self) -> list[np.ndarray]:
        """The arrays that `map` reads, in file order."""
        return [self.hashes_N, self.rows_N]

    def find(self, ids: Sequence[str], hashes_B: np.ndarray, id_at: Callable[[int], str]) -> np.ndarray:
        """Return the row of each id, -1 for unknown ids: int64 [B]."""
        rows_B = np.full(len(ids), -1, dtype=np.int64)
        if not len(self.hashes_N):
            return rows_B
        places_B = np.searchsorted(self.hashes_N, hashes_B)
        present = self.hashes_N[np.minimum(places_B, len(self.hashes_N) - 1)] == hashes_B
        for b in np.flatnonzero(present).tolist():
            place = int(places_B[b])
            while place < len(self.hashes_N) and self.hashes_N[place] == hashes_B[b]:
                if id_at(int(self.rows_N[place])) == ids[b]:
                    rows_B[b] = self.rows_N[place]
                    break
                place += 1
        return rows_B


class Shard:
    """A memory-mapped shard, for random access unless `scan`. `vectors_NE` is read-only, in the file's dtype.

    Raises `BadInput` if the file's layout doesn't fit `rows` vectors of `width` numbers and their ids.
    """

    def __init__(self, path: Path, rows: int, width: int, dtype: str, *, scan: bool = False) -> None:
        buffer = _mapped(path, mmap.MADV_SEQUENTIAL if scan else mmap.MADV_RANDOM)
        kind = np.dtype(dtype).newbyteorder("<")
        _check_layout(path, buffer, rows, vector_bytes(rows, width, dtype))
        self.vectors_NE = np.frombuffer(buffer, dtype=kind, count=rows * width).reshape(rows, width)
        start = vector_bytes(rows, width, dtype)
        numbers = np.frombuffer(buffer, dtype=_U64, count=3 * rows + 1, offset=start)
        self._offsets, hashes_N, rows_N = np.split(numbers, [rows + 1, 2 * rows + 1])
        self.index = HashIndex(hashes_N, rows_N)
        self._utf8 = memoryview(buffer)[start + numbers.nbytes :]

    def id_at(self, row: int) -> str:
        """Return the id of a row of this shard."""
        return _text(self._utf8[self._offsets[row] : self._offsets[row + 1]])

    def ids(self) -> Iterator[str]:
        """Iterate over all ids in row order."""
        return (_text(self._utf8[start:end]) for start, end in pairwise(self._offsets.tolist()))


def id_buffers(ids: Sequence[str]) -> list[np.ndarray | bytes]:
    """Build the part of a shard after its vectors."""
    texts = [_utf8(id) for id in ids]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(_U64)
    return [offsets, *HashIndex.of(hash_ids(ids)).buffers(), b"".join(texts)]


def vector_bytes(rows: int, width: int, dtype: str) -> int:
    """Bytes of a shard's vectors, padded to a multiple of 8."""
    return -(-rows * width * np.dtype(dtype).itemsize // 8) * 8


def shard_buffers(vectors_NE: np.ndarray, ids: Sequence[str]) -> list[np.ndarray | bytes]:
    """Build a shard's buffers, in file order."""
    rows, width = vectors_NE.shape
    padding = bytes(vector_bytes(rows, width, str(vectors_NE.dtype)) - vectors_NE.nbytes)
    little = np.ascontiguousarray(vectors_NE).astype(vectors_NE.dtype.newbyteorder("<"), copy=False)
    return [little, padding, *id_buffers(ids)]


def write_buffers(path: Path, buffers: Sequence[np.ndarray | bytes]) -> tuple[int, str]:
    """Write the buffers to one file atomically; return its size in bytes and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with atomic_write(path, "wb") as file:
        for buffer in buffers:
            data = buffer if isinstance(buffer, bytes) else buffer.reshape(-1).view(np.uint8).data
            digest.update(data)
            size += file.write(data)
    return size, digest.hexdigest()


def _mapped(path: Path, advice: int = mmap.MADV_RANDOM) -> mmap.mmap:
    # Without MADV_RANDOM, reading one row triggers a read-ahead of megabytes.
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(advice)
    return mapped


def _check_layout(path: Path, buffer: mmap.mmap, rows: int, start: int) -> None:
    """Check that the offsets after the vectors start with 0 and end at the file's end; a wrong width shifts them."""
    texts = start + (3 * rows + 1) * _U64.itemsize
    if texts <= len(buffer):
        first, last = (int(np.frombuffer(buffer, _U64, 1, start + row * _U64.itemsize)[0]) for row in (0, rows))
        if first == 0 and texts + last == len(buffer):
            return
    problem = f"the file doesn't hold the {rows} vectors that the manifest lists"
    raise BadInput(problem, remedy="remove the store's folder and encode again", path=path)


def _utf8(id: str) -> bytes:
    return id.encode("utf-8", "surrogatepass")


def _text(utf8: memoryview) -> str:
    return str(utf8, "utf-8", "surrogatepass")
