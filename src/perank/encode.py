"""Encode a collection's passages into its EmbeddingStore: `python -m perank.encode collection=nfcorpus encoder=minilm`.

Training, reranking and dense retrieval find the store in the cache (or in `folder`); interrupted, the same command
goes on. With several devices (`trainer=ddp`) the first process reads, sorts and writes, and every process encodes its
share of each batch of texts of similar length.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perank.assemble import Assembly
from perank.errors import exits_cleanly
from perank.paths import CONF_DIR
from perank.records import Collection
from perank.retrieval.encoding import cached_store
from perank.retrieval.store import EmbeddingStore
from perank.retrieval.text_encoder import TextEncoder

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def encode(
    collection: Collection,
    make_encoder: Callable[[torch.device], TextEncoder],
    fabric: Fabric,
    folder: str | None = None,
    *,
    dtype: str = "float16",
    batch_size: int = 256,
    shard_rows: int = 65_536,
    progress: bool = True,
) -> EmbeddingStore | None:
    """Encode the collection on the devices of `fabric`; the whole store, or None in all processes but the first.

    `batch_size` texts go to each device at a time. Raises `BadInput` as `encode_into` does.
    """
    fabric.launch()
    encoder = SharedEncoder(make_encoder(fabric.device), fabric)
    if not fabric.is_global_zero:
        encoder.serve()
        return None
    began = time.perf_counter()
    try:
        store = cached_store(
            collection.name,
            collection.passages,
            encoder,
            folder,
            dtype=dtype,
            batch_size=batch_size * fabric.world_size,
            shard_rows=shard_rows,
            progress=progress,
        )
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


def main() -> None:
    """`python -m perank.encode` with Hydra overrides; bad input ends with exit code 2."""
    import hydra

    hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="encode")(_run)()


def _run(config: DictConfig) -> None:
    # Inside Hydra's frame: outside of it bad input would have become a traceback and exit code 1.
    exits_cleanly(lambda: _encode(config))()


def _encode(config: DictConfig) -> None:
    from lightning.fabric import Fabric

    parts = Assembly(config)
    encode(
        parts.collection,
        lambda device: parts.make("encoder", **({} if device.type == "cpu" else {"device": str(device)})),
        Fabric(accelerator=config.trainer.accelerator, devices=config.trainer.devices),
        config.folder,
        dtype=config.dtype,
        batch_size=config.batch_size,
        shard_rows=config.shard_rows,
    )


if __name__ == "__main__":
    main()
