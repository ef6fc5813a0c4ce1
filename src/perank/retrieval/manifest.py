"""The manifest of an EmbeddingStore: the encoder that produced the vectors, and the complete shards.

It is replaced atomically after each shard, so listed shards are on disk; other files in the folder are unfinished
writes and are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from perank.errors import BadInput
from perank.files import read_json, sha256_of_text, write_json
from perank.records import Identity, differing

FORMAT = 1
MANIFEST = "manifest.json"
_ENCODE_AGAIN = "remove the folder and encode again"


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A complete shard: rows, bytes and SHA-256 of its file, and a digest of its ids and texts."""

    rows: int
    bytes: int
    sha256: str
    texts: str


@dataclass(frozen=True)
class Manifest:
    """`index` is the SHA-256 of the index over all shards, once the store is complete."""

    identity: Identity
    width: int
    dtype: str
    shard_rows: int
    shards: tuple[ShardRecord, ...] = ()
    index: str | None = None

    @cached_property
    def starts(self) -> np.ndarray:
        """First row of each shard, then the number of rows: int64 [shards + 1]."""
        return np.concatenate([[0], np.cumsum([shard.rows for shard in self.shards], dtype=np.int64)]).astype(np.int64)

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return int(self.starts[-1])

    @property
    def complete(self) -> bool:
        """Whether the encoding is finished."""
        return self.index is not None

    @property
    def index_name(self) -> str:
        """The file of the index over all shards; its name changes when the store grows, for concurrent readers."""
        return f"index-{self.rows:010d}.bin"

    def write(self, folder: Path) -> None:
        """Replace the folder's manifest atomically."""
        content = {"format": FORMAT, **asdict(self), "identity": dict(self.identity)}
        write_json(folder / MANIFEST, {**content, "digest": _digest(content)})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of `folder`. Raises `BadInput` if it is missing or damaged."""
        path = folder / MANIFEST
        if not path.is_file():
            raise BadInput("not an embedding store", remedy="check the path, or encode into it", path=folder)
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise BadInput(f"expected a manifest of format {FORMAT}", remedy=_ENCODE_AGAIN, path=path)
        digest = content.pop("digest", None)
        try:
            manifest = _parse({key: value for key, value in content.items() if key != "format"})
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"not a manifest: {error}", remedy=_ENCODE_AGAIN, path=path) from error
        if digest not in (None, _digest(content)):  # None: written by a version without digests
            raise BadInput("the manifest is damaged: wrong digest", remedy=_ENCODE_AGAIN, path=path)
        return manifest

    def check_identity(self, identity: Identity, folder: Path) -> None:
        """Raise `BadInput` with every field in which `identity` differs from the encoder that filled the store."""
        if fields := differing(self.identity, identity):
            found = "; ".join(f"{f}: {self.identity.get(f)!r} in it, {identity.get(f)!r} here" for f in fields)
            remedy = "use the encoder that filled the store, or encode into another folder"
            raise BadInput(f"the store holds another encoder's vectors ({found})", remedy=remedy, path=folder)


def _digest(content: Mapping[str, Any]) -> str:
    return sha256_of_text(json.dumps(content, sort_keys=True))


def _parse(content: dict[str, Any]) -> Manifest:
    manifest = Manifest(**{**content, "shards": tuple(ShardRecord(**shard) for shard in content["shards"])})
    counts = [number for shard in manifest.shards for number in (shard.rows, shard.bytes)]
    if manifest.complete and not manifest.shards:
        raise ValueError("complete but without shards")
    if not all(isinstance(number, int) and number > 0 for number in [manifest.width, manifest.shard_rows, *counts]):
        raise ValueError("a width, row or byte count isn't a positive integer")
    if manifest.dtype not in ("float16", "float32") or not isinstance(manifest.identity, dict):
        raise ValueError("invalid dtype or identity")
    return manifest
