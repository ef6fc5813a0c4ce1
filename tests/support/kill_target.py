"""Encodes until somebody kills it: python -m support.kill_target (in tests/) FOLDER PASSAGES SHARD_ROWS."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from perank.retrieval.encoding import StoreOptions, encode_into
from support.fake_encoders import HashEncoder


class Slow(HashEncoder):
    """Without torch, so that a process is quick to start; as slow as writing, so that kills meet both."""

    def encode_passages(self, texts: Sequence[str]) -> Any:
        time.sleep(0.002)
        return np.stack([self.vector(text) for text in texts])


folder, passages, shard_rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
items = ((f"p{i}", "x" * (i * 7 % 13 + 1)) for i in range(passages))
print("ready", flush=True)
encode_into(folder, items, Slow(64), StoreOptions(shard_rows=shard_rows, batch_size=8, progress=False))
