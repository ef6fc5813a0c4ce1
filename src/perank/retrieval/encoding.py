"""Encode texts into an EmbeddingStore once, resumably, in batches of similar length.

A shard's texts are sorted by length before batching, to reduce padding; rows keep the input order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from perank.errors import BadInput
from perank.files import cache_dir
from perank.records import Passage, Query, TextEncoder
from perank.retrieval.store import EmbeddingStore
from perank.retrieval.store_writer import Chunk, StoreWriter, check_vectors, digest_of_texts

log = logging.getLogger(__name__)

_HASHED_PASSAGES = 1_000_000  # larger corpora are identified by their first million passages and size


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """`dtype` on disk, texts per batch, rows per shard, and whether to show a progress bar."""

    dtype: str = "float16"
    batch_size: int = 256
    shard_rows: int = 65_536
    progress: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise BadInput(f"the batch size is {self.batch_size}", remedy="use 1 or more", id="batch_size")


def encode_into(
    folder: str | Path,
    items: Iterable[tuple[str, str]] | Mapping[str, str],
    encoder: TextEncoder,
    options: StoreOptions = StoreOptions(),
    *,
    total: int | None = None,
) -> EmbeddingStore:
    """Encode (id, passage text) items into the store at `folder`, or resume an unfinished one.

    Items are read one shard at a time; `total` is their number, for the progress bar. A complete store is compared with
    the items and left unchanged; additional items are appended. Raises `BadInput` as `StoreWriter` does.
    """
    from tqdm import tqdm

    pairs = items.items() if isinstance(items, Mapping) else items
    total = len(items) if total is None and isinstance(items, Sized) else total
    with (
        StoreWriter(folder, encoder.identity, encoder.width, options.dtype, options.shard_rows) as writer,
        tqdm(total=total, desc="encode", unit="passage", disable=not options.progress) as bar,
    ):
        shortened = 0
        for chunk in writer.pending(pairs):
            bar.update(int(writer.manifest.starts[chunk.number]) - bar.n)  # whole shards before it
            writer.write(chunk, _vectors(chunk, encoder, options.batch_size, bar))
            shortened += _shortened(chunk, encoder)
        if shortened:
            log.warning("%d passages are longer than the encoder reads: their ends don't count", shortened)
        return writer.finish()


def cached_store(
    collection_name: str,
    passages: Mapping[str, Passage],
    encoder: TextEncoder,
    folder: str | Path | None = None,
    options: StoreOptions = StoreOptions(),
) -> EmbeddingStore:
    """Return the store of a collection's passages (title and text), encoding them on first use.

    The default `folder` is in the cache, under a fingerprint of the encoder's identity and the passages' ids and texts,
    so that splits of a corpus share it; the collection's name is there for readability.
    """
    where = Path(folder) if folder else _cached(collection_name, passages, encoder)
    if folder is None and (store := finished_store(collection_name, passages, encoder)) is not None:
        return store
    return encode_into(where, _contents(passages), encoder, options, total=len(passages))


def finished_store(
    collection_name: str, passages: Mapping[str, Passage], encoder: TextEncoder
) -> EmbeddingStore | None:
    """Return the complete store in the cache, or None, without encoding."""
    with suppress(BadInput):  # missing or damaged: encode_into handles both
        store = EmbeddingStore.open(_cached(collection_name, passages, encoder), encoder.identity)
        if store.complete and len(store) == len(passages):
            return store
    return None


class QueryVectors:
    """Vectors of a collection's queries, encoded on first use and kept in memory.

    Each block of `block` queries, in the collection's order, is encoded together, so that vectors are bit-identical
    whatever the order of requests.
    """

    def __init__(self, queries: Mapping[str, Query], encoder: TextEncoder, *, block: int = 64) -> None:
        self.queries, self.encoder, self.block = queries, encoder, block
        self._known: dict[str, np.ndarray] = {}

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """Return fp32 vectors [len(ids), E]. Raises `BadInput` for an unknown query id."""
        for id in dict.fromkeys(ids):
            if id not in self.queries:
                raise BadInput("unknown query id", remedy="check the id and the collection", id=id)
            if id not in self._known:
                self._encode(self._places[id] // self.block * self.block)
        return np.stack([self._known[id] for id in ids]) if ids else np.empty((0, self.encoder.width), np.float32)

    def _encode(self, start: int) -> None:
        together = self._ids[start : start + self.block]
        vectors = self.encoder.encode_queries([self.queries[id].text for id in together])
        self._known.update(zip(together, np.asarray(vectors, dtype=np.float32), strict=True))

    @cached_property
    def _ids(self) -> list[str]:
        return list(self.queries)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {id: place for place, id in enumerate(self._ids)}


def _contents(passages: Mapping[str, Passage]) -> Iterator[tuple[str, str]]:
    return ((id, passage.contents) for id, passage in passages.items())


def _vectors(chunk: Chunk, encoder: TextEncoder, batch_size: int, bar: Any) -> np.ndarray:
    vectors_NE = np.empty((len(chunk.ids), encoder.width), dtype=np.float32)
    order = sorted(range(len(chunk.texts)), key=lambda i: (-len(chunk.texts[i]), i))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found_BE = np.asarray(encoder.encode_passages([chunk.texts[i] for i in batch]))
        check_vectors(found_BE, [chunk.ids[i] for i in batch], encoder.width)
        vectors_NE[batch] = found_BE
        bar.update(len(batch))
    return vectors_NE


def _shortened(chunk: Chunk, encoder: TextEncoder) -> int:
    """How many of the texts are longer than the encoder reads; 0 for an encoder that can't tell."""
    tell = getattr(encoder, "shortened", None)
    return 0 if tell is None else sum(tell(chunk.texts))


def _cached(collection_name: str, passages: Mapping[str, Passage], encoder: TextEncoder) -> Path:
    known = [json.dumps(dict(encoder.identity), sort_keys=True), str(len(passages))]
    known.append(digest_of_texts(islice(_contents(passages), _HASHED_PASSAGES)))
    fingerprint = hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
    folder = cache_dir() / "embeddings"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", collection_name)
    return next(folder.glob(f"*-{fingerprint}"), folder / f"{readable}-{fingerprint}")
