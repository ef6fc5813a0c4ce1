"""An encoder shared by one process or two: the same vectors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from perank.retrieval.encoding import StoreOptions, cached_store
from perank.retrieval.shared_encoder import SharedEncoder
from perank.retrieval.store import EmbeddingStore
from support.fake_encoders import HashEncoder, collection

TEXTS = {f"p{i}": "x" * (i * 7 % 11 + 1) for i in range(37)}


def run(folder: str, devices: int) -> None:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=devices)
    fabric.launch()
    encoder, passages = SharedEncoder(HashEncoder(), fabric), collection(TEXTS).passages
    if fabric.is_global_zero:
        options = StoreOptions(batch_size=5 * devices, shard_rows=16, progress=False)
        cached_store("texts", passages, encoder, folder, options)
        encoder.close()
    else:
        encoder.serve()


def check(folder: Path) -> None:
    store = EmbeddingStore.open(folder, HashEncoder().identity)
    store.verify()
    assert list(store.ids) == list(TEXTS)
    expected = np.stack([HashEncoder().vector(text) for text in TEXTS.values()]).astype("float16")
    np.testing.assert_array_equal(store.get(list(TEXTS)), expected)


def test_one_process_fills_the_store(tmp_path: Path):
    run(str(tmp_path), devices=1)
    check(tmp_path)


@pytest.mark.slow
def test_two_processes_fill_the_same_store(tmp_path: Path):
    # Lightning starts the second process by running the same script again.
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        f"from retrieval.test_shared_encoder import run\nrun({str(tmp_path / 'store')!r}, devices=2)\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=300)
    check(tmp_path / "store")
