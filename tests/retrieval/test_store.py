"""Reading stores: vectors by id, strange ids, colliding hashes, damage found, readers beside a writer, size."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.files import write_json
from perank.retrieval import shard as shard_module
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.retrieval.manifest import Manifest, ShardRecord
from perank.retrieval.shard import HashIndex, hash_ids, id_buffers, vector_bytes, write_buffers
from perank.retrieval.store import EmbeddingStore, shard_path
from support.fake_encoders import ENCODER, filled, texts_of

ids_strategy = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=30, unique=True)


@settings(deadline=None, max_examples=40)
@given(ids_strategy, st.integers(1, 9), st.sampled_from(["float16", "float32"]), st.data())
def test_a_store_returns_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], shard_rows: int, dtype: str, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("store")
    store = encode_into(
        folder, texts_of(ids), ENCODER, StoreOptions(dtype=dtype, shard_rows=shard_rows, progress=False)
    )
    asked = data.draw(st.lists(st.sampled_from(ids)))
    expected = np.array([ENCODER.vector(f"text of {id}").astype(dtype) for id in asked], dtype=np.float32)
    found = store.get(asked)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.reshape(-1, ENCODER.width))
    assert list(store.ids) == ids == store.ids[:]
    assert len(store) == len(store.ids) == len(ids)
    stranger = data.draw(st.text(max_size=5))
    assert (stranger in store) == (stranger in ids) == (stranger in store.ids)


@settings(deadline=None, max_examples=30)
@given(ids_strategy, st.integers(1, 4))
def test_ids_with_equal_hashes_are_told_apart(tmp_path_factory: pytest.TempPathFactory, ids: list[str], values: int):
    with pytest.MonkeyPatch.context() as patch:
        tiny = lambda ids: hash_ids(ids) % np.uint64(values)  # noqa: E731
        patch.setattr("perank.retrieval.shard.hash_ids", tiny)
        patch.setattr("perank.retrieval.store.hash_ids", tiny)
        folder = tmp_path_factory.mktemp("store")
        store = encode_into(folder, texts_of(ids), ENCODER, StoreOptions(shard_rows=4, progress=False))
        assert store.rows([*ids, "never there"]).tolist() == [*range(len(ids)), -1]
        unfinished = EmbeddingStore(folder, replace(store.manifest, index=None))
        assert unfinished.rows([*ids, "never there"]).tolist() == [*range(len(ids)), -1]


def test_the_index_of_a_store_in_the_making_is_its_shards(tmp_path: Path):
    store = filled(tmp_path)
    write_json(
        tmp_path / "manifest.json",
        {**json.loads((tmp_path / "manifest.json").read_text()), "index": None, "digest": None},
    )
    unfinished = EmbeddingStore.open(tmp_path)
    assert not unfinished.complete
    assert unfinished.rows([*store.ids, "p99"]).tolist() == [*range(10), -1]
    with pytest.raises(BadInput, match=r"'p99'.*10 passages in the store, unfinished"):
        unfinished.get(["p1", "p99"])


def test_an_unknown_id_is_named(tmp_path: Path):
    with pytest.raises(BadInput, match=r"id 'p77'.*not one of the 10 passages.*encode the passage") as caught:
        filled(tmp_path).get(["p3", "p77", "p88"])
    assert (caught.value.id, caught.value.path) == ("p77", tmp_path)


def test_shards_come_in_order_read_only_and_in_the_dtype_on_disk(tmp_path: Path):
    parts = list(filled(tmp_path, dtype="float32").shards())
    assert [(start, part.shape, part.dtype.name) for start, part in parts] == [
        (0, (4, 8), "float32"),
        (4, (4, 8), "float32"),
        (8, (2, 8), "float32"),
    ]
    assert not any(part.flags.writeable for _, part in parts)
    expected = np.stack([ENCODER.vector(f"text of p{i}") for i in range(10)])
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), expected)


def test_another_encoders_store_is_refused_with_every_differing_field(tmp_path: Path):
    store = filled(tmp_path)
    assert EmbeddingStore.open(tmp_path, ENCODER.identity).identity == ENCODER.identity == store.identity
    other = {"name": "hash", "pooling": "cls", "revision": "abc"}
    with pytest.raises(
        BadInput, match=r"pooling: 'mean' in it, 'cls' here; revision: None in it, 'abc' here"
    ) as caught:
        EmbeddingStore.open(tmp_path, other)
    assert "name" not in caught.value.problem


def test_a_store_travels_to_worker_processes(tmp_path: Path):
    store = filled(tmp_path)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).get(["p7"]), store.get(["p7"]))


def test_an_open_reader_keeps_its_shards_while_the_store_grows(tmp_path: Path):
    reader = filled(tmp_path, n=6)
    filled_later = filled(tmp_path, n=6 + 5)
    assert len(reader) == 6
    assert "p8" not in reader
    np.testing.assert_array_equal(reader.get(["p1", "p5"]), filled_later.get(["p1", "p5"]))
    assert list(filled_later.ids) == [f"p{i}" for i in range(11)]


def test_opening_looks_again_when_a_writer_moved_on_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    filled(tmp_path / "small", n=6)
    old = Manifest.read(tmp_path / "small")
    filled(tmp_path / "small", n=11)
    new, answers = Manifest.read(tmp_path / "small"), [old]
    monkeypatch.setattr(Manifest, "read", classmethod(lambda cls, folder: answers.pop() if answers else new))
    assert len(EmbeddingStore.open(tmp_path / "small")) == 11


@pytest.mark.slow
def test_a_store_of_8_8_million_opens_fast_and_small(tmp_path: Path):
    rows, width, shard_rows = 8_800_000, 768, 65_536
    _sparse_store(tmp_path, rows, width, shard_rows)
    before, began = _resident_bytes(), time.perf_counter()
    store = EmbeddingStore.open(tmp_path)
    assert (len(store), store.ids[4_321_000], "8799999" in store) == (rows, "4321000", True)
    opened, used = time.perf_counter() - began, _resident_bytes() - before
    dice, seconds = np.random.default_rng(0), []
    for _ in range(5):
        chosen = [str(i) for i in dice.choice(rows, 100, replace=False)]
        began = time.perf_counter()
        found = store.get(chosen)
        seconds.append(time.perf_counter() - began)
        assert found.shape == (100, width)
        assert store.rows(chosen).tolist() == [int(id) for id in chosen]
    print(f"opened in {opened:.4f} s, {used / 2**20:.1f} MiB more resident; 100 random ids, milliseconds:")
    print(", ".join(f"{1e3 * second:.2f}" for second in seconds))
    assert opened < 1
    assert used < 50e6
    assert sorted(seconds)[2] < 0.010
    shutil.rmtree(tmp_path)


def _sparse_store(folder: Path, rows: int, width: int, shard_rows: int) -> None:
    """Shards whose vectors are holes in the file; ids and indexes are real."""
    shards, hashes = [], []
    for number, start in enumerate(range(0, rows, shard_rows)):
        ids = [str(i) for i in range(start, min(start + shard_rows, rows))]
        hole, path = vector_bytes(len(ids), width, "float16"), shard_path(folder, number)
        with path.open("wb") as file:
            file.seek(hole)
            file.writelines(bytes(memoryview(buffer)) for buffer in id_buffers(ids))
        shards.append(ShardRecord(len(ids), path.stat().st_size, "0" * 64, "0" * 64))
        hashes.append(shard_module.hash_ids(ids))
    manifest = Manifest({"name": "none"}, width, "float16", shard_rows, tuple(shards), index="0" * 64)
    write_buffers(folder / manifest.index_name, HashIndex.of(np.concatenate(hashes)).buffers())
    manifest.write(folder)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
