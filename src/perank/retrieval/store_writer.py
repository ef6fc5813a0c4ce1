"""Fill an EmbeddingStore shard by shard: complete shards are kept, damaged or missing ones are rebuilt.

The caller passes the same passages in the same order each time; a finished shard is compared with them by a digest of
ids and texts before it is skipped. A shard is written next to its target, synced and renamed, then the manifest is
replaced, so an interrupted run resumes after the last complete shard and produces the same bytes. A lock, which the
kernel releases when the process dies, admits one writer at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from perank.errors import BadInput
from perank.files import file_lock, sha256
from perank.records import Identity
from perank.retrieval.manifest import MANIFEST, Manifest, ShardRecord
from perank.retrieval.shard import HashIndex, Shard, shard_buffers, write_buffers
from perank.retrieval.store import EmbeddingStore, is_intact, shard_path

_SAME_PASSAGES = "pass the passages that the store was started with, or encode into another folder"


@dataclass(frozen=True, slots=True)
class Chunk:
    """The passages of one shard, in input order."""

    number: int
    ids: list[str]
    texts: list[str]

    @property
    def digest(self) -> str:
        """The digest of ids and texts in the shard's record."""
        return digest_of_texts(zip(self.ids, self.texts, strict=True))


class StoreWriter:
    """Create `folder` or continue filling it; a context manager that holds the folder's lock.

    Raises `BadInput` if another process is writing to it, or if the store was started with another encoder, width,
    dtype or shard size.
    """

    def __init__(
        self, folder: str | Path, identity: Identity, width: int, dtype: str = "float16", shard_rows: int = 65_536
    ) -> None:
        if dtype not in ("float16", "float32"):
            raise BadInput(f"unknown dtype {dtype!r}", remedy="choose float16 or float32")
        if shard_rows < 1:
            raise BadInput(f"shard_rows is {shard_rows}", remedy="choose 1 or more")
        self.folder = Path(folder)
        self.manifest = Manifest(dict(identity), width, dtype, shard_rows)
        self._held = ExitStack()

    def __enter__(self) -> StoreWriter:
        with ExitStack() as held:
            held.enter_context(file_lock(self.folder / ".lock", wait=False))
            self._begin()
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def pending(self, items: Iterable[tuple[str, str]]) -> Iterator[Chunk]:
        """Yield the chunks of (id, text) items without a complete shard; `write` each before requesting the next.

        Raises `BadInput` for duplicate ids, items that differ from those in finished shards, and if there are no items.
        """
        stream = iter(items)
        for number in range(len(self.manifest.shards)):
            record = self.manifest.shards[number]
            chunk = _chunk(number, islice(stream, record.rows))
            intact = is_intact(shard_path(self.folder, number), record)
            if chunk.digest != record.texts:
                self._refuse_other(chunk, record, intact)
            if not intact:
                yield chunk
        while (chunk := _chunk(len(self.manifest.shards), islice(stream, self.manifest.shard_rows))).ids:
            self._check_new(chunk.ids)
            yield chunk
        if not self.manifest.shards:
            raise BadInput("there are no passages to encode", remedy="check where they come from", path=self.folder)

    def write(self, chunk: Chunk, vectors_NE: np.ndarray) -> None:
        """Write a chunk's vectors [N, E] as a shard. Raises `BadInput` for wrong shapes and non-finite values."""
        with np.errstate(over="ignore"):
            stored_NE = vectors_NE.astype(self.manifest.dtype)
        check_vectors(stored_NE, chunk.ids, self.manifest.width)
        size, checksum = write_buffers(shard_path(self.folder, chunk.number), shard_buffers(stored_NE, chunk.ids))
        shards = list(self.manifest.shards)
        is_new = chunk.number == len(shards)
        shards[chunk.number : chunk.number + 1] = [ShardRecord(len(chunk.ids), size, checksum, chunk.digest)]
        self._replace(replace(self.manifest, shards=tuple(shards), index=None if is_new else self.manifest.index))

    def finish(self) -> EmbeddingStore:
        """Build the index over all shards, mark the store complete, and open it."""
        path = self.folder / self.manifest.index_name
        if not (self.manifest.complete and path.is_file() and sha256(path) == self.manifest.index):
            hashes_N = np.concatenate([shard.index.hashes_by_row() for shard in self._shards()])
            _, checksum = write_buffers(path, HashIndex.of(hashes_N).buffers())
            self._replace(replace(self.manifest, index=checksum))
        self._remove("index-*.bin", keep=path.name)
        return EmbeddingStore.open(self.folder, self.manifest.identity)

    def _begin(self) -> None:
        self._remove(".*.part")  # left by an interrupted writer
        if not (self.folder / MANIFEST).exists():
            self._replace(self.manifest)
            return
        begun, wanted = Manifest.read(self.folder), self.manifest
        begun.check_identity(wanted.identity, self.folder)
        for field in ("width", "dtype", "shard_rows"):
            found, expected = getattr(begun, field), getattr(wanted, field)
            if found != expected:
                problem = f"the store was started with {field} {found!r}, not {expected!r}"
                raise BadInput(problem, remedy=f"use {found!r}, or encode into another folder", path=self.folder)
        self.manifest = begun
        if begun.complete:
            self._remove("index-*.bin", keep=begun.index_name)

    def _replace(self, manifest: Manifest) -> None:
        manifest.write(self.folder)
        self.manifest = manifest

    def _remove(self, pattern: str, keep: str = "") -> None:
        for path in self.folder.glob(pattern):
            if path.name != keep:
                path.unlink()

    def _shards(self) -> Iterator[Shard]:
        for number, record in enumerate(self.manifest.shards):
            yield Shard(shard_path(self.folder, number), record.rows, self.manifest.width, self.manifest.dtype)

    def _check_new(self, ids: Sequence[str]) -> None:
        seen: set[str] = set()
        twice = next((id for id in ids if id in seen or seen.add(id)), None)  # type: ignore[func-returns-value]
        if twice is None:
            known = EmbeddingStore(self.folder, replace(self.manifest, index=None)).rows(ids) >= 0
            twice = ids[int(np.argmax(known))] if known.any() else None
        if twice is not None:
            raise BadInput("duplicate passage id", remedy="give every passage a unique id", id=twice)

    def _refuse_other(self, chunk: Chunk, record: ShardRecord, intact: bool) -> None:
        if len(chunk.ids) < record.rows:
            given = int(self.manifest.starts[chunk.number]) + len(chunk.ids)
            problem, id = f"expected the {self.manifest.rows} passages in the store, found only {given}", None
        elif not intact:
            problem, id = "the passages differ from those that a damaged shard was made from", chunk.ids[0]
        else:
            problem, id = self._first_difference(chunk, record)
        raise BadInput(problem, remedy=_SAME_PASSAGES, path=self.folder, id=id)

    def _first_difference(self, chunk: Chunk, record: ShardRecord) -> tuple[str, str | None]:
        shard = Shard(shard_path(self.folder, chunk.number), record.rows, self.manifest.width, self.manifest.dtype)
        for row, (given, stored) in enumerate(zip(chunk.ids, shard.ids(), strict=True)):
            if given != stored:
                return f"row {int(self.manifest.starts[chunk.number]) + row} of the store is passage {stored!r}", given
        return f"a text among this passage and the {len(chunk.ids) - 1} after it has changed", chunk.ids[0]


def digest_of_texts(items: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over ids and texts, each preceded by its length."""
    digest = hashlib.sha256()
    for item in items:
        for part in item:
            utf8 = part.encode("utf-8", "surrogatepass")
            digest.update(len(utf8).to_bytes(8, "little") + utf8)
    return digest.hexdigest()


def check_vectors(vectors_NE: np.ndarray, ids: Sequence[str], width: int) -> None:
    """Raise `BadInput` for wrong shapes, or with the first id whose vector isn't finite."""
    if vectors_NE.shape != (len(ids), width):
        problem = f"expected vectors {[len(ids), width]}, found {list(vectors_NE.shape)}"
        raise BadInput(problem, remedy="use an encoder that returns one vector of its width per text", id=ids[0])
    finite_N = np.isfinite(vectors_NE).all(axis=1)
    if not finite_N.all():
        problem = f"the vector has values that aren't finite in {vectors_NE.dtype}"
        raise BadInput(problem, remedy="check the text and the encoder", id=ids[int(np.argmin(finite_N))])


def _chunk(number: int, items: Iterable[tuple[str, str]]) -> Chunk:
    pairs = list(items)
    return Chunk(number, [id for id, _ in pairs], [text for _, text in pairs])
