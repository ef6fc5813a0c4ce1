"""Stores that lost or changed bytes: found by name, at opening, at the first lookup or by `verify`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.files import write_json
from perank.retrieval.store import EmbeddingStore, shard_path
from support.fake_encoders import ENCODER, filled, flip_bit


def _manifest(folder: Path) -> dict[str, object]:
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_shard_that_has_lost_bytes_is_refused_at_opening(tmp_path: Path, keep: int):
    filled(tmp_path)
    os.truncate(shard_path(tmp_path, 1), keep)
    with pytest.raises(BadInput, match=rf"shard-00001.bin: expected \d+ bytes, found {keep}"):
        EmbeddingStore.open(tmp_path)


@pytest.mark.parametrize("name", ["shard-00002.bin", "index-0000000010.bin"])
def test_a_missing_file_is_refused_at_opening(tmp_path: Path, name: str):
    filled(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadInput, match=rf"{name}: the file is missing"):
        EmbeddingStore.open(tmp_path)


@pytest.mark.parametrize("name", ["shard-00000.bin", "shard-00002.bin", "index-0000000010.bin"])
def test_a_flipped_bit_is_found_by_verify(tmp_path: Path, name: str):
    store = filled(tmp_path)
    store.verify()
    flip_bit(tmp_path / name)
    with pytest.raises(BadInput, match=rf"{name}.*is damaged: wrong checksum"):
        EmbeddingStore.open(tmp_path).verify()


@pytest.mark.parametrize("change", [{"width": 4}, {"width": 9}, {"dtype": "float32"}])
def test_another_layout_than_the_manifest_says_is_found_by_the_first_lookup(tmp_path: Path, change: dict[str, object]):
    filled(tmp_path)
    write_json(tmp_path / "manifest.json", {**_manifest(tmp_path), **change, "digest": None})
    with pytest.raises(BadInput, match=r"shard-00000\.bin: the file doesn't hold the 4 vectors"):
        EmbeddingStore.open(tmp_path).get(["p1"])


@settings(max_examples=150)
@given(data=st.data())
def test_whatever_happens_to_the_bytes_a_lookup_gives_vectors_or_bad_input(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("damaged")
    filled(folder, n=6, shard_rows=3)
    path = data.draw(st.sampled_from(sorted(folder.glob("*-*.bin"))))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    store = EmbeddingStore.open(folder)
    for id in ("p0", "p5"):
        try:
            assert store.get([id]).shape == (1, ENCODER.width)
        except BadInput as error:
            assert str(folder) in str(error)


@pytest.mark.parametrize("damage", ["", '{"format": 1, "width": 8', "[]", '{"format": 99}', '{"format": 1}'])
def test_a_torn_or_strange_manifest_is_refused(tmp_path: Path, damage: str):
    filled(tmp_path)
    (tmp_path / "manifest.json").write_text(damage)
    with pytest.raises(BadInput, match=r"manifest\.json"):
        EmbeddingStore.open(tmp_path)


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"dtype": "int8"}, {"shards": []}, {"shards": [{"rows": 1}]}, {"identity": 3}]
)
def test_a_manifest_with_impossible_values_is_refused(tmp_path: Path, change: dict[str, object]):
    filled(tmp_path)
    write_json(tmp_path / "manifest.json", {**_manifest(tmp_path), **change})
    with pytest.raises(BadInput, match="not a manifest"):
        EmbeddingStore.open(tmp_path)


@pytest.mark.parametrize("change", [{"width": 7}, {"index": "0" * 64}, {"identity": {"name": "other"}}])
def test_a_manifest_that_was_edited_is_refused(tmp_path: Path, change: dict[str, object]):
    filled(tmp_path)
    write_json(tmp_path / "manifest.json", {**_manifest(tmp_path), **change})
    with pytest.raises(BadInput, match="is damaged: wrong digest"):
        EmbeddingStore.open(tmp_path)


def test_no_store_is_no_store(tmp_path: Path):
    with pytest.raises(BadInput, match="not an embedding store"):
        EmbeddingStore.open(tmp_path / "nowhere")
