"""Encode a collection's passages, once, into a store of vectors that training and reranking read.

Examples:
    python -m perank.encode collection=pydocs
    python -m perank.encode collection=nfcorpus encoder=bge
    python -m perank.encode collection=beir collection.folder=<folder> folder=<store>    # not into the cache
    python -m perank.encode collection=msmarco encoder=jina trainer=ddp batch_size=512   # on several GPUs
    python -m perank.encode collection=nfcorpus dtype=float32                            # twice the disk

Interrupted runs resume: give the same command again. With several devices (`trainer=ddp`) the first process reads,
sorts and writes, and every process encodes its share of each batch of texts of similar length.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perank.app.assembly import Assembly
from perank.app.console import quiet_lightning
from perank.app.jobs import run
from perank.app.settings import check_type
from perank.errors import BadInput, exits_cleanly
from perank.records import Collection, TextEncoder
from perank.retrieval.encoding import StoreOptions, cached_store
from perank.retrieval.store import EmbeddingStore

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def encode(
    collection: Collection,
    make_encoder: Callable[[torch.device], TextEncoder],
    fabric: Fabric,
    folder: str | None,
    options: StoreOptions,
) -> EmbeddingStore | None:
    """Encode the collection on the devices of `fabric`; the whole store, or None in all processes but the first.

    `options.batch_size` texts go to each device at a time. Raises `BadInput` as `encode_into` does.
    """
    fabric.launch()
    encoder = SharedEncoder(make_encoder(fabric.device), fabric)
    if not fabric.is_global_zero:
        encoder.serve()
        return None
    began = time.perf_counter()
    try:
        options = replace(options, batch_size=options.batch_size * fabric.world_size)
        store = cached_store(collection.name, collection.passages, encoder, folder, options)
    finally:
        encoder.close()
    seconds = time.perf_counter() - began
    log.info("%d vectors of %d numbers in %s (%.1f s)", len(store), store.width, store.folder, seconds)
    return store


class SharedEncoder:
    """Encodes with all processes: the first calls `encode_passages` and, at the end, `close`; the others `serve`."""

    def __init__(self, encoder: TextEncoder, fabric: Fabric) -> None:
        self._encoder, self._fabric = encoder, fabric

    @property
    def width(self) -> int:
        return self._encoder.width

    @property
    def identity(self) -> Mapping[str, str | int | bool]:
        return self._encoder.identity

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return self._encoder.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> Any:
        """Unit vectors [B, E], fp32 on the CPU, in the order of `texts`."""
        if self._fabric.world_size == 1:
            return self._encoder.encode_passages(texts)
        return self._share(self._fabric.broadcast(list(texts)))

    def serve(self) -> None:
        """Encode shares of what the first process encodes, until it closes."""
        while (texts := self._fabric.broadcast(None)) is not None:
            self._share(texts)

    def close(self) -> None:
        """Let the other processes end."""
        if self._fabric.world_size > 1:
            self._fabric.broadcast(None)

    def _share(self, texts: list[str]) -> Tensor:
        # Every world_size-th text, so that shares are alike in length; short shares are padded, as gathering demands.
        mine = texts[self._fabric.global_rank :: self._fabric.world_size]
        rows_RE = torch.zeros(-(-len(texts) // self._fabric.world_size), self.width)
        if mine:
            rows_RE[: len(mine)] = self._encoder.encode_passages(mine)
        all_WRE = self._fabric.all_gather(rows_RE.to(self._fabric.device))
        assert isinstance(all_WRE, Tensor)
        return all_WRE.transpose(0, 1).reshape(-1, self.width)[: len(texts)].cpu()


@exits_cleanly
def main() -> None:
    """The command line."""
    run("encode", _encode)


def _encode(config: DictConfig) -> None:
    for key, kind in {"folder": str | None, "dtype": str, "batch_size": int, "shard_rows": int}.items():
        check_type(config[key], kind, key)
    assembly = Assembly(config)
    encode(
        assembly.collection,
        lambda device: assembly.make("encoder", **({} if device.type == "cpu" else {"device": str(device)})),
        _fabric(config.trainer.accelerator, config.trainer.devices),
        config.folder,
        StoreOptions(dtype=config.dtype, batch_size=config.batch_size, shard_rows=config.shard_rows),
    )


def _fabric(accelerator: str, devices: int | str) -> Fabric:
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    quiet_lightning()
    try:
        return Fabric(accelerator=accelerator, devices=devices)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise BadInput(" ".join(str(error).split()), remedy="see conf/trainer", id="trainer") from error


if __name__ == "__main__":
    main()
