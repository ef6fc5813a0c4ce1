"""EmbeddingStore: memory-mapped vectors by passage id; opening it reads only the manifest.

Every shard has a sorted index of its ids' 64-bit hashes, and a complete store one over all shards, so a lookup is a
binary search on mapped pages and a comparison of ids. A store can be read while it is being written: readers see the
shards listed in the manifest when they opened it. `perank.retrieval.encoding` fills stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np

from perank.errors import BadInput
from perank.files import sha256
from perank.records import Identity
from perank.retrieval.manifest import Manifest, ShardRecord
from perank.retrieval.shard import HashIndex, Shard, hash_ids

_ENCODE_AGAIN = "encode into the store again: only damaged files are rebuilt"
_MAPPED_SHARDS = 256  # each needs a file descriptor; a process commonly has 1,024


class EmbeddingStore:
    """Vectors of E numbers for N passage ids, in encoding order."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._shard = lru_cache(maxsize=_MAPPED_SHARDS)(self._map)
        self._index = HashIndex.map(folder / manifest.index_name, manifest.rows) if manifest.complete else None

    @classmethod
    def open(cls, folder: str | Path, identity: Identity | None = None) -> EmbeddingStore:
        """Open a store, which may still be unfinished; costs one stat per shard.

        Raises `BadInput` if there is none, if a listed shard is missing or has the wrong size, and if another encoder
        than that of `identity` (if given) filled the store.
        """
        folder = Path(folder)
        while True:
            manifest = Manifest.read(folder)
            if identity is not None:
                manifest.check_identity(identity, folder)
            try:
                _check_sizes(folder, manifest)
                return cls(folder, manifest)
            except (BadInput, FileNotFoundError):
                if Manifest.read(folder) == manifest:  # otherwise a writer has changed the store: retry
                    raise

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return EmbeddingStore.open, (self.folder,)  # each worker maps the files itself

    def __len__(self) -> int:
        return self.manifest.rows

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and bool(self.rows([id])[0] >= 0)

    @property
    def width(self) -> int:
        """E, the length of a vector."""
        return self.manifest.width

    @property
    def identity(self) -> Identity:
        """The encoder that filled the store."""
        return self.manifest.identity

    @property
    def complete(self) -> bool:
        """Whether the encoding is finished."""
        return self.manifest.complete

    @property
    def ids(self) -> Ids:
        """All ids in row order, read from disk on access."""
        return Ids(self)

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """Return the vectors of `ids` in order: fp32 [B, E]. Raises `BadInput` for an unknown id."""
        rows_B = self.rows(ids)
        if (rows_B < 0).any():
            unknown = ids[int(np.argmax(rows_B < 0))]
            state = "" if self.complete else ", unfinished"
            problem = f"not one of the {len(self)} passages in the store{state}"
            raise BadInput(problem, remedy="encode the passage into the store", path=self.folder, id=unknown)
        return self.vectors(rows_B)

    def vectors(self, rows_B: np.ndarray) -> np.ndarray:
        """Return the vectors of existing rows [B] in order: fp32 [B, E]."""
        vectors_BE = np.empty((len(rows_B), self.width), dtype=np.float32)
        shards_B = np.searchsorted(self.manifest.starts, rows_B, side="right") - 1
        for number in sorted(set(shards_B.tolist())):
            here = np.flatnonzero(shards_B == number)
            vectors_BE[here] = self._shard(number).vectors_NE[rows_B[here] - self.manifest.starts[number]]
        return vectors_BE

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Return the row of each id, -1 for unknown ids: int64 [B]. Raises `BadInput` for a damaged file."""
        try:
            return self._rows(ids)
        except BadInput:
            raise
        except (IndexError, ValueError):  # damaged offsets or ids
            self.verify()
            raise

    def _rows(self, ids: Sequence[str]) -> np.ndarray:
        hashes_B = hash_ids(ids)
        if self._index is not None:
            return self._index.find(ids, hashes_B, self.ids.at)
        rows_B = np.full(len(ids), -1, dtype=np.int64)
        for number, start in enumerate(self.manifest.starts[:-1]):
            shard, left = self._shard(number), np.flatnonzero(rows_B < 0).tolist()
            found = shard.index.find([ids[i] for i in left], hashes_B[left], shard.id_at)
            rows_B[left] = np.where(found >= 0, found + start, -1)
        return rows_B

    def shards(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, vectors [rows, E]) of each shard: memory-mapped, read-only, in the dtype on disk."""
        for number, start in enumerate(self.manifest.starts[:-1]):
            yield int(start), self._map(number, scan=True).vectors_NE

    def verify(self) -> None:
        """Check all checksums and layouts. Raises `BadInput` with the first damaged file."""
        for number, record in enumerate(self.manifest.shards):
            path = shard_path(self.folder, number)
            if not is_intact(path, record):
                raise BadInput("the shard is damaged: wrong checksum or size", remedy=_ENCODE_AGAIN, path=path)
            self._map(number)
        index = self.folder / self.manifest.index_name
        if self.complete and sha256(index) != self.manifest.index:
            raise BadInput("the index is damaged: wrong checksum", remedy=_ENCODE_AGAIN, path=index)

    def _map(self, number: int, scan: bool = False) -> Shard:
        rows = self.manifest.shards[number].rows
        return Shard(shard_path(self.folder, number), rows, self.width, self.manifest.dtype, scan=scan)


class Ids(Sequence[str]):
    """The ids of a store as a sequence on disk."""

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self.at(i) for i in range(*row.indices(len(self)))]
        return self.at(range(len(self))[row])

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self._store.manifest.shards)):
            yield from self._store._shard(number).ids()

    def __contains__(self, id: object) -> bool:
        return id in self._store

    def of(self, rows_B: np.ndarray) -> list[str]:
        """Return the ids of existing rows [B] in order."""
        starts = self._store.manifest.starts
        shards_B = np.searchsorted(starts, rows_B, side="right") - 1
        places = zip(shards_B.tolist(), (rows_B - starts[shards_B]).tolist(), strict=True)
        return [self._store._shard(number).id_at(row) for number, row in places]

    def at(self, row: int) -> str:
        """Return the id of an existing row."""
        starts = self._store.manifest.starts
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return self._store._shard(number).id_at(row - int(starts[number]))


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of shard `number`."""
    return folder / f"shard-{number:05d}.bin"


def is_intact(path: Path, record: ShardRecord) -> bool:
    """Whether the file exists with the recorded size and checksum."""
    return path.is_file() and path.stat().st_size == record.bytes and sha256(path) == record.sha256


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    expected = {shard_path(folder, number): record.bytes for number, record in enumerate(manifest.shards)}
    if manifest.complete:
        expected[folder / manifest.index_name] = 16 * manifest.rows
    for path, size in expected.items():
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            problem = "the file is missing" if found is None else f"expected {size} bytes, found {found}"
            raise BadInput(problem, remedy=_ENCODE_AGAIN, path=path)
