"""Malformed vectors and requests: embedding stores, a user's own vectors, prompts that don't fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case

from perank import Reranker
from perank.ranking.windows import Windows
from perank.records import Candidates, Passage
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.retrieval.store import EmbeddingStore
from support import tiny


def cases() -> Iterator[Case]:
    """All cases of vectors and requests."""
    yield from _stores()
    yield from _given_vectors()
    yield from _prompts()


class Fixed:
    """An encoder whose vectors are what a case wants."""

    width = 4

    def __init__(self, vectors: Any = None, name: str = "fixed") -> None:
        self.vectors, self.identity = vectors, {"name": name}

    def encode_passages(self, texts: Any) -> Any:
        return np.tile(np.array([1.0, 0, 0, 0], np.float32), (len(texts), 1)) if self.vectors is None else self.vectors

    encode_queries = encode_passages


def _stores() -> Iterator[Case]:
    reader = "embedding store"
    texts = {f"p{i}": f"text {i}" for i in range(5)}

    def encoded(folder: Path, vectors: Any = None, items: Any = texts, name: str = "fixed") -> EmbeddingStore:
        return encode_into(folder / "store", items, Fixed(vectors, name), StoreOptions(shard_rows=3, progress=False))

    def damaged(
        change: Callable[[Path], Any], then: Callable[[EmbeddingStore], Any] = lambda store: store.verify()
    ) -> Any:
        def run(folder: Path) -> Any:
            encoded(folder)
            change(folder / "store")
            return then(EmbeddingStore.open(folder / "store"))

        return run

    def cut(name: str) -> Callable[[Path], Any]:
        def run(store: Path) -> None:
            path = next(store.glob(name))
            path.write_bytes(path.read_bytes()[:-2])

        return run

    def flip(name: str) -> Callable[[Path], Any]:
        def run(store: Path) -> None:
            path = next(store.glob(name))
            content = bytearray(path.read_bytes())
            content[3] ^= 1
            path.write_bytes(content)

        return run

    def manifest(**changes: Any) -> Callable[[Path], Any]:
        def run(store: Path) -> None:
            path = store / "manifest.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return run

    for value in (np.nan, np.inf, 1e30):
        wrong = np.tile(np.array([value, 0, 0, 0], np.float32), (3, 1))
        yield Case(reader, f"encoder gives {value}", lambda f, w=wrong: encoded(f, w), ("id",))  # type: ignore[misc]
    yield Case(reader, "encoder gives another width", lambda f: encoded(f, np.zeros((3, 5), np.float32)), ("id",))
    yield Case(reader, "encoder gives another number", lambda f: encoded(f, np.zeros((2, 4), np.float32)), ("id",))
    yield Case(reader, "an id twice", lambda f: encoded(f, items=[("a", "x"), ("a", "y")]), ("id",))
    yield Case(reader, "an id twice in two shards", lambda f: encoded(f, items=[(i, "x") for i in "abcda"]), ("id",))
    yield Case(reader, "no passages", lambda f: encoded(f, items={}))
    yield Case(reader, "another encoder", lambda f: (encoded(f), encoded(f, name="other")))
    yield Case(reader, "other texts", lambda f: (encoded(f), encoded(f, items=texts | {"p1": "changed"})))
    yield Case(reader, "fewer passages", lambda f: (encoded(f), encoded(f, items={"p0": "text 0"})))
    yield Case(reader, "unknown id", damaged(lambda _: None, lambda store: store.get(["p1", "z"])), ("path", "id"))
    yield Case(reader, "no such store", lambda f: EmbeddingStore.open(f / "none"))
    for name in ("shard-00000.bin", "index-*.bin", "manifest.json"):
        yield Case(reader, f"{name} missing", damaged(lambda s, name=name: next(s.glob(name)).unlink()))  # type: ignore[misc]
        yield Case(reader, f"{name} two bytes short", damaged(cut(name)))
    yield Case(reader, "a bit of a shard flipped", damaged(flip("shard-00001.bin")))
    yield Case(reader, "a bit of the index flipped", damaged(flip("index-*.bin")))
    for changes in (
        {"width": 0},
        {"width": 3},
        {"width": 9},
        {"dtype": "float32"},
        {"index": "0" * 64},
        {"width": "four"},
        {"dtype": "int8"},
        {"shards": []},
        {"shards": 3},
        {"format": 9},
        {"colour": 1},
    ):
        yield Case(reader, f"manifest with {changes}", damaged(manifest(**changes)))


def _given_vectors() -> Iterator[Case]:
    reader = "a user's own vectors"
    good = np.eye(8, dtype=np.float32)[:5]

    def ranked(vectors: Any, **options: Any) -> Callable[[Path], Any]:
        def run(_: Path) -> Any:
            reranker = Reranker(tiny.tiny_model(), tiny.tiny_prompts(), None)
            texts = ["a"] * options.pop("texts", 0) or None
            return reranker.rank("sea otter", texts, passage_embeddings=vectors, **options)

        return run

    def spoiled(value: float) -> np.ndarray:
        vectors = good.copy()
        vectors[2, 2] = value
        return vectors

    for value in (np.nan, np.inf, -np.inf, 0.0, 3.0):
        yield Case(reader, f"a vector of {value}", ranked(spoiled(value)), ())
    yield Case(reader, "another width", ranked(good[:, :7]), ())
    yield Case(reader, "one dimension", ranked(good[0]), ())
    yield Case(reader, "three dimensions", ranked(good[None]), ())
    yield Case(reader, "rows of unequal length", ranked([[1.0], [1.0, 0.0]]), ())
    yield Case(reader, "words", ranked([["a"] * 8]), ())
    yield Case(reader, "fewer than texts", ranked(good, texts=6), ())
    yield Case(reader, "nothing to rank", ranked(None), ())
    yield Case(reader, "no encoder for texts", ranked(None, texts=3), ())
    yield Case(reader, "query vector nan", ranked(good, query_embedding=np.full(8, np.nan)), ())
    yield Case(reader, "query vector of another width", ranked(good, query_embedding=np.ones(7)), ())
    yield Case(reader, "top_k 0", ranked(good, top_k=0), ())


def _prompts() -> Iterator[Case]:
    reader = "prompts"
    long = "otter " * 500
    prompts = lambda: tiny.tiny_prompts(max_length=100)  # noqa: E731
    yield Case(reader, "over-long query", lambda _: prompts().rank(long, 5), ("id",))
    yield Case(reader, "too many passages", lambda _: prompts().rank("otter", 500), ("id",))
    yield Case(reader, "over-long query with texts", lambda _: prompts().rank_with_text(long, ["a"] * 5), ("id",))
    yield Case(reader, "empty query", lambda _: prompts().rank("", 5), ())
    yield Case(reader, "query of our own marks", lambda _: prompts().rank("\ufdd0\ufdd1", 5), ())
    yield Case(reader, "unknown version", lambda _: tiny.tiny_prompts("table 7"), ())
    yield Case(reader, "window below step", lambda _: Windows(5, 6), ())

    def rerank(query: str) -> Any:
        reranker = Reranker(tiny.tiny_model(), prompts(), None)
        return reranker.rank(query, passage_embeddings=np.eye(8, dtype=np.float32)[:5])

    def ranked(documents: Any, **options: Any) -> Any:
        reranker = Reranker(tiny.tiny_model(), prompts(), None)
        return lambda _: reranker.rank("sea otter", documents, **options)

    for documents in (
        ["a", None],
        ["a", float("nan")],
        [{"body": "a"}],
        ["x\ud83d"],
        [("id", "a")],
        "one text",
        {"a"},
        5,
    ):
        yield Case("Reranker", f"passages {documents!r}", ranked(documents), ())
    for top_k in ("2", 2.5, True):
        yield Case("Reranker", f"top_k {top_k!r}", ranked(["a", "b"], top_k=top_k), ())
    yield Case("Reranker", "empty query", lambda _: rerank(" "), ())
    yield Case("Reranker", "over-long query", lambda _: rerank(long), ("id",))
    yield Case("Reranker", "passage that isn't in the store", _from_store, ("id",))


def _from_store(folder: Path) -> Any:
    class Wide(Fixed):
        width = 8

        def encode_passages(self, texts: Any) -> Any:
            return np.eye(8, dtype=np.float32)[: len(texts)]

    store = encode_into(folder / "store", {"a": "x", "b": "y"}, Wide(), StoreOptions(progress=False))
    reranker = Reranker(tiny.tiny_model(), tiny.tiny_prompts(), None, store=store)
    return reranker.rank_batch([Candidates(tiny.QUERY, (Passage("a", "x"), Passage("z", "y")))])
