"""Filling stores: what is killed goes on to the same bytes, what is damaged is made again, what differs is refused."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from perank.errors import BadInput
from perank.records import Passage, Query
from perank.retrieval.dense import Dense
from perank.retrieval.encoding import StoreOptions, cached_store, encode_into
from perank.retrieval.store import EmbeddingStore, shard_path
from perank.retrieval.store_writer import StoreWriter
from support.fake_encoders import HashEncoder, collection, flip_bit

TEXTS = {f"p{i}": "word " * (i * 7 % 5 + 1) + str(i) for i in range(10)}


def encode(
    folder: Path, texts: object = TEXTS, encoder: HashEncoder | None = None, **options: object
) -> EmbeddingStore:
    options = {"shard_rows": 4, "progress": False, **options}
    return encode_into(folder, texts, encoder or HashEncoder(), StoreOptions(**options))  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_while_encoding(folder: Path, kills: int, seed: int) -> list[int]:
    """SIGKILL `kills` encoding processes, each at a random moment and each going on where the last was stopped.

    Returns how many rows each left behind in whole shards.
    """
    dice, left = random.Random(seed), []
    while len(left) < kills:
        process = _start(folder)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(dice.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # it had come to its end: begin anew
            shutil.rmtree(folder)
        else:
            left.append(len(EmbeddingStore.open(folder)) if (folder / "manifest.json").exists() else 0)
    return left


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "support.kill_target", str(folder), "1500", "16"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, kills: int):
    left = kill_while_encoding(tmp_path / "killed", kills, seed=kills)
    print(f"rows in whole shards after each kill: {left}")
    for folder in (tmp_path / "killed", tmp_path / "whole"):
        process = _start(folder)
        process.communicate()
        assert process.returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    EmbeddingStore.open(tmp_path / "killed").verify()


class Ahead(HashEncoder):
    """Encodes a batch when the next one is known; stops after `limit` texts."""

    limit = 1 << 30

    def encode_batches(self, batches: Iterable[Sequence[str]]) -> Iterator[torch.Tensor]:
        for batch, _ in pairwise(chain(batches, [None])):
            if self.seen >= self.limit:
                raise KeyboardInterrupt
            yield self.encode_passages(batch)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_an_encoder_that_works_ahead_gives_the_same_bytes_and_goes_on_after_an_interruption(
    tmp_path: Path, batch_size: int
) -> None:
    encode(tmp_path / "one", batch_size=batch_size)
    stopped = Ahead()
    stopped.limit = 5
    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path / "ahead", encoder=stopped, batch_size=batch_size)
    left = len(EmbeddingStore.open(tmp_path / "ahead"))
    again = Ahead()
    encode(tmp_path / "ahead", encoder=again, batch_size=batch_size)
    assert again.seen == 10 - left
    assert contents(tmp_path / "ahead") == contents(tmp_path / "one")


def test_only_the_shards_that_are_missing_are_encoded(tmp_path: Path):
    class Interrupted(HashEncoder):
        def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
            if self.seen >= 4:
                raise KeyboardInterrupt
            return super().encode_passages(texts)

    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path, encoder=Interrupted())
    begun = EmbeddingStore.open(tmp_path)
    assert (len(begun), begun.complete) == (4, False)
    again = HashEncoder()
    assert encode(tmp_path, encoder=again).complete
    assert again.seen == 6
    encode(tmp_path, encoder=again)
    assert again.seen == 6


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("loss", ["torn", "flipped", "gone"])
def test_a_damaged_shard_is_made_again_and_only_that_one(tmp_path: Path, number: int, loss: str):
    encode(tmp_path)
    before, path = contents(tmp_path), shard_path(tmp_path, number)
    if loss == "torn":
        path.write_bytes(path.read_bytes()[:50])
    elif loss == "flipped":
        flip_bit(path)
    else:
        path.unlink()
    again = HashEncoder()
    encode(tmp_path, encoder=again)
    assert again.seen == [4, 4, 2][number]
    assert contents(tmp_path) == before


def test_a_damaged_index_is_made_again_without_encoding(tmp_path: Path):
    encode(tmp_path)
    before, again = contents(tmp_path), HashEncoder()
    flip_bit(tmp_path / "index-0000000010.bin")
    encode(tmp_path, encoder=again)
    assert (again.seen, contents(tmp_path)) == (0, before)


def test_what_a_killed_writer_left_lying_about_is_removed(tmp_path: Path):
    encode(tmp_path)
    before = contents(tmp_path)
    (tmp_path / ".shard-00001.bin.abc.part").write_bytes(b"half")
    encode(tmp_path)
    assert contents(tmp_path) == before


def test_rows_keep_the_order_given_though_batches_are_sorted_by_length(tmp_path: Path):
    class Watched(HashEncoder):
        batches: list[list[int]] = []  # noqa: RUF012

        def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
            self.batches.append([len(text) for text in texts])
            return super().encode_passages(texts)

    store = encode(tmp_path, encoder=Watched(), batch_size=3, shard_rows=100)
    lengths = [length for batch in Watched.batches for length in batch]
    assert lengths == sorted(map(len, TEXTS.values()), reverse=True)
    assert list(map(len, Watched.batches)) == [3, 3, 3, 1]
    assert list(store.ids) == list(TEXTS)


def test_a_store_grows_by_items_beyond_its_end(tmp_path: Path):
    items = list(TEXTS.items())
    encode(tmp_path, items[:6])
    again = HashEncoder()
    store = encode(tmp_path, iter(items), encoder=again)
    assert (again.seen, list(store.ids)) == (4, list(TEXTS))
    assert sorted(path.name for path in tmp_path.glob("index*")) == ["index-0000000010.bin"]
    store.verify()


@pytest.mark.parametrize("place", [3, 5, 9])
def test_an_id_given_twice_is_refused_wherever_it_was_first(tmp_path: Path, place: int):
    items = list(TEXTS.items())
    items[place] = ("p2", "other")
    with pytest.raises(BadInput, match=r"id 'p2'.*duplicate passage id"):
        encode(tmp_path, items)


def test_other_passages_than_before_are_refused(tmp_path: Path):
    encode(tmp_path)
    items = list(TEXTS.items())
    with pytest.raises(BadInput, match=r"id 'new'.*row 5 of the store is passage 'p5'"):
        encode(tmp_path, [*items[:5], ("new", "text"), *items[6:]])
    with pytest.raises(BadInput, match=r"id 'p4'.*the 3 after it has changed"):
        encode(tmp_path, [*items[:5], ("p5", "another text"), *items[6:]])
    with pytest.raises(BadInput, match=r"expected the 10 passages in the store, found only 7"):
        encode(tmp_path, items[:7])
    flip_bit(shard_path(tmp_path, 0))
    with pytest.raises(BadInput, match=r"id 'new'.*differ from those that a damaged shard"):
        encode(tmp_path, [("new", "text"), *items[1:]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": HashEncoder(pooling="cls")}, r"pooling: 'mean' in it, 'cls' here"),
        ({"encoder": HashEncoder(width=16)}, r"started with width 8, not 16"),
        ({"dtype": "float32"}, r"started with dtype 'float16', not 'float32'"),
        ({"shard_rows": 5}, r"started with shard_rows 4, not 5"),
        ({"dtype": "int8"}, r"'int8'.*float16 or float32"),
        ({"shard_rows": 0}, r"shard_rows is 0"),
    ],
)
def test_going_on_with_another_encoder_or_other_options_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
):
    encode(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=message):
        encode(tmp_path, **change)  # type: ignore[arg-type]
    assert contents(tmp_path) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_a_vector_that_is_not_finite_on_disk_names_its_passage(tmp_path: Path, value: float):
    class Broken(HashEncoder):
        def vector(self, text: str) -> np.ndarray:
            return super().vector(text) * (value if text == TEXTS["p6"] else 1)

    with pytest.raises(BadInput, match=r"id 'p6'.*aren't finite"):
        encode(tmp_path, encoder=Broken())
    assert len(EmbeddingStore.open(tmp_path)) == 4


def test_vectors_of_another_width_than_announced_are_refused(tmp_path: Path):
    class Narrow(HashEncoder):
        def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
            return super().encode_passages(texts)[:, :5]

    with pytest.raises(BadInput, match=r"expected vectors \[4, 8\], found \[4, 5\]") as caught:
        encode(tmp_path, encoder=Narrow())
    assert caught.value.id in TEXTS


def test_nothing_to_encode_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="no passages to encode"):
        encode(tmp_path, {})


def test_a_second_writer_is_turned_away_and_the_first_goes_on(tmp_path: Path):
    encoder = HashEncoder()
    with StoreWriter(tmp_path, encoder.identity, encoder.width, shard_rows=4):
        with pytest.raises(BadInput, match="another process is writing"):
            encode(tmp_path)
        assert len(EmbeddingStore.open(tmp_path)) == 0
    assert len(encode(tmp_path)) == 10


def test_a_torn_manifest_stops_the_writer_too(tmp_path: Path):
    encode(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format"')
    with pytest.raises(BadInput, match=r"manifest\.json:1"):
        encode(tmp_path)


def test_a_collections_store_is_filled_once_and_known_by_its_encoder_ids_and_texts(own_cache: Path):
    passages = {id: Passage(id, text, title="Title") for id, text in TEXTS.items()}
    encoder = HashEncoder()
    store = cached_store("a/collection", passages, encoder)
    assert store.folder.parent == own_cache / "embeddings"
    assert store.folder.name.startswith("a-collection-")
    expected = encoder.vector(f"Title {TEXTS['p3']}").astype("float16")
    np.testing.assert_array_equal(store.get(["p3"])[0], expected)
    assert cached_store("another split of it", passages, encoder).folder == store.folder
    assert encoder.seen == 10
    changed = {**passages, "p3": Passage("p3", "another text")}
    others = [(changed, encoder), (dict(list(passages.items())[:9]), encoder), (passages, HashEncoder(pooling="cls"))]
    folders = {cached_store("a/collection", given, by).folder for given, by in others}
    assert len({*folders, store.folder}) == 4


def test_a_damaged_cached_store_mends_itself(own_cache: Path):
    passages = {id: Passage(id, text) for id, text in TEXTS.items()}
    store = cached_store("c", passages, HashEncoder())
    shard_path(store.folder, 0).unlink()
    assert len(cached_store("c", passages, HashEncoder())) == 10


def test_a_store_in_a_folder_of_ones_own_is_compared_with_the_passages(tmp_path: Path):
    passages = {id: Passage(id, text) for id, text in TEXTS.items()}
    assert cached_store("c", passages, HashEncoder(), tmp_path).folder == tmp_path
    with pytest.raises(BadInput, match="has changed"):
        cached_store("c", {**passages, "p1": Passage("p1", "new")}, HashEncoder(), tmp_path)


@pytest.mark.parametrize(("filled", "asks"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_what_was_encoded_in_another_type_is_not_encoded_again(own_cache: Path, filled: str, asks: str):
    passages = {id: Passage(id, text) for id, text in TEXTS.items()}
    store = cached_store("c", passages, HashEncoder(dtype=filled))
    encoder = HashEncoder(dtype=asks)
    assert cached_store("c", passages, encoder).folder == store.folder
    assert encoder.seen == 0
    assert store.identity["dtype"] == filled  # recorded all the same
    assert Dense(encoder, store).search(collection(TEXTS), [Query("q", "word")], 3).keys() == {"q"}


def test_more_passages_than_allowed_are_not_encoded_but_read(own_cache: Path):
    passages = {id: Passage(id, text) for id, text in TEXTS.items()}
    few = StoreOptions(most=9)
    with pytest.raises(BadInput, match=r"10 passages would have to be encoded on the CPU.*perank\.encode"):
        cached_store("c", passages, HashEncoder(), options=few)
    cached_store("c", passages, HashEncoder())
    assert len(cached_store("c", passages, HashEncoder(), options=few)) == 10
