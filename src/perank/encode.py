"""Encode a collection's passages, once, into a store of vectors that training and reranking read.

Examples:
    python -m perank.encode collection=pydocs
    python -m perank.encode collection=nfcorpus encoder=bge
    python -m perank.encode collection=beir collection.folder=<folder> folder=<store>    # not in the cache
    python -m perank.encode collection=msmarco encoder=jina trainer=ddp batch_size=512   # on several GPUs
    python -m perank.encode collection=nfcorpus dtype=float32                            # twice the disk

Interrupted runs resume: run the same command again. With several devices (`trainer=ddp`) the first process reads,
sorts and writes, and every process encodes its share of each batch of texts of similar length. On a CPU it uses the
cores that are idle when it starts; `OMP_NUM_THREADS` sets another number.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from perank.app.commands.processes import launched
from perank.app.inputs import Inputs
from perank.app.jobs import run
from perank.errors import exits_cleanly
from perank.retrieval.encoding import StoreOptions, cached_store

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def encode(config: DictConfig) -> None:
    """Encode the collection on the configured devices. Raises `BadInput` for invalid settings and texts."""
    from perank.retrieval.shared_encoder import SharedEncoder

    trainer = config.trainer
    fabric = launched(trainer.accelerator, trainer.devices, trainer.get("num_nodes", 1), "trainer")
    inputs = Inputs(config, device=str(fabric.device))
    encoder = SharedEncoder(inputs.encoder, fabric)
    if not fabric.is_global_zero:
        encoder.serve()
        return
    began = time.perf_counter()
    batch = config.batch_size * fabric.world_size
    try:
        options = StoreOptions(dtype=config.dtype, batch_size=batch, shard_rows=config.shard_rows)
        store = cached_store(inputs.collection.name, inputs.collection.passages, encoder, config.folder, options)
    finally:
        encoder.close()
    seconds = time.perf_counter() - began
    log.info("%d vectors of %d numbers in %s (%.1f s)", len(store), store.width, store.folder, seconds)


@exits_cleanly
def main() -> None:
    """The command line."""
    run("encode", encode)


if __name__ == "__main__":
    main()
