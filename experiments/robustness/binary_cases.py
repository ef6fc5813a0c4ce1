"""Malformed weights and vectors: checkpoints, projectors, saved models, embedding stores, a user's own vectors."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case
from safetensors.torch import load_file, save_file

import tiny
from perank import Reranker
from perank.files import sha256
from perank.model.encoder import Encoder
from perank.model.hub import from_pretrained, save_pretrained
from perank.model.llm import LLM
from perank.model.projector import Projector
from perank.model.projector_file import read_projector, write_projector
from perank.model.prompts import PromptBuilder
from perank.model.start import load_projector, save_projector
from perank.records import Candidates, Passage
from perank.rerank.window import Windows
from perank.retrieval.encoding import encode_into
from perank.retrieval.store import EmbeddingStore
from perank.stages.checkpoints import newest_checkpoint, read_checkpoint

Change = Callable[[dict[str, Any]], Any]


class Code:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/perank-ran-a-pickle",)


def cases() -> Iterator[Case]:
    """All cases of weights and vectors."""
    yield from _torn("checkpoint", "step-000001.ckpt", _checkpoint, read_checkpoint)
    yield from _checkpoints()
    yield from _torn("projector.safetensors", "p.safetensors", _safetensors, _load_projector)
    yield from _projectors("projector.safetensors", "p.safetensors", save_file, _load_projector)
    yield from _torn("projector.bin", "p.bin", lambda path: write_projector(path, Projector(8, 16)), _read_bin)
    yield from _projectors("projector.bin", "p.bin", torch.save, _read_bin)
    yield from _models()
    yield from _encoders()
    yield from _stores()
    yield from _given_vectors()
    yield from _prompts()


def _torn(reader: str, file: str, write: Callable[[Path], Any], read: Callable[[Path], Any]) -> Iterator[Case]:
    def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            write(folder / file)
            (folder / file).write_bytes(change((folder / file).read_bytes()))
            return read(folder / file)

        return run

    yield Case(reader, "missing", lambda folder: read(folder / file))
    yield Case(reader, "a folder in its place", lambda folder: (folder / file).mkdir() or read(folder / file))
    yield Case(reader, "empty", changed(lambda _: b""))
    yield Case(reader, "text", changed(lambda _: b"not weights\n" * 9))
    yield Case(reader, "a pickle of code", changed(lambda _: pickle.dumps(Code())))
    for share in (0.01, 0.3, 0.6, 0.9, 0.99):
        yield Case(
            reader, f"cut after {share:.0%}", changed(lambda bytes, share=share: bytes[: int(len(bytes) * share)])
        )  # type: ignore[misc]
    yield Case(reader, "zeros at the start", changed(lambda bytes: bytes(64) + bytes[64:]))


def _checkpoint(path: Path, change: Change = lambda content: content) -> None:
    content = {"state_dict": {}, "global_step": 1, "loops": {}, "optimizer_states": [], "lr_schedulers": []}
    torch.save(change(content), path)


def _checkpoints() -> Iterator[Case]:
    def read(change: Change) -> Callable[[Path], Any]:
        return lambda folder: (_checkpoint(folder / "x.ckpt", change), read_checkpoint(folder / "x.ckpt"))

    def all_broken(folder: Path) -> Any:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "step-000001.ckpt").write_bytes(b"torn")
        return newest_checkpoint(folder)

    for key in ("state_dict", "global_step", "loops", "optimizer_states", "lr_schedulers"):
        yield Case("checkpoint", f"without {key}", read(lambda c, key=key: {k: v for k, v in c.items() if k != key}))  # type: ignore[misc]
    yield Case("checkpoint", "a list", read(lambda _: [1, 2]))
    yield Case("checkpoint", "a tensor", read(lambda _: torch.zeros(3)))
    yield Case("checkpoint", "code inside", read(lambda c: c | {"state_dict": Code()}))
    yield Case("checkpoint", "a whole module inside", read(lambda c: c | {"state_dict": torch.nn.Linear(2, 2)}))
    yield Case("checkpoint", "a folder of broken ones", all_broken)


def _safetensors(path: Path) -> None:
    save_projector(Projector(8, 16), path)


def _load_projector(path: Path) -> None:
    load_projector(Projector(8, 16), path)


def _read_bin(path: Path) -> None:
    read_projector(path, width_in=8, width_out=16)


def _projectors(
    reader: str, file: str, save: Callable[[Any, Path], Any], read: Callable[[Path], Any]
) -> Iterator[Case]:
    def changed(change: Change) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            state = {name: value.detach().clone() for name, value in Projector(8, 16).state_dict().items()}
            save(change(state), folder / file)
            return read(folder / file)

        return run

    def with_value(name: str, value: float) -> Change:
        def change(state: dict[str, Any]) -> dict[str, Any]:
            state[name].view(-1)[0] = value
            return state

        return change

    for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
        yield Case(reader, f"without {name}", changed(lambda s, n=name: {k: v for k, v in s.items() if k != n}))  # type: ignore[misc]
        yield Case(reader, f"{name} nan", changed(with_value(name, torch.nan)))
        yield Case(reader, f"{name} inf", changed(with_value(name, torch.inf)))
        yield Case(reader, f"{name} of another width", changed(lambda s, n=name: s | {n: s[n][:-1].clone()}))  # type: ignore[misc]
    yield Case(reader, "an unknown tensor", changed(lambda s: s | {"4.weight": torch.zeros(2, 2)}))
    yield Case(reader, "whole numbers", changed(lambda s: {k: v.long() for k, v in s.items()}))
    for widths in ((9, 16), (8, 15)):
        other = Projector(*widths).state_dict()
        yield Case(reader, f"trained for widths {widths}", changed(lambda _, other=other: dict(other)))  # type: ignore[misc]


@cache
def _base() -> tuple[Path, Path]:
    """A tiny LLM and encoder that outlive the cases."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="malformed-base-"))
    tiny.tiny_llm(3, layers=1, width=16, heads=2, kv_heads=1).save_pretrained(folder / "llm")
    tiny.tiny_tokenizer().save_pretrained(folder / "llm")
    tiny.tiny_encoder(folder / "encoder")
    return folder / "llm", folder / "encoder"


def _saved(folder: Path) -> Path:
    llm, encoder = _base()
    settings = LLM(name=str(llm))
    model = tiny.tiny_model(dtype=torch.float32, layers=1, width=16, heads=2, kv_heads=1)
    return save_pretrained(
        folder / "model", model, llm=settings, prompts=PromptBuilder(settings.tokenizer(), "compact"),
        encoder=Encoder(str(encoder), max_length=32), whole_llm=False,
    )  # fmt: skip


def _models() -> Iterator[Case]:
    reader = "saved model folder"

    def edited(change: Change) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path = _saved(folder) / "config.json"
            path.write_text(json.dumps(change(json.loads(path.read_text()))))
            return from_pretrained(folder / "model", dtype="float32").encoder.width

        return run

    def weights(change: Change) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path, config = _saved(folder) / "model.safetensors", folder / "model" / "config.json"
            save_file(change(load_file(path)), path)
            config.write_text(json.dumps(json.loads(config.read_text()) | {"sha256": sha256(path)}))
            return from_pretrained(folder / "model", dtype="float32")

        return run

    def without(name: str) -> Callable[[Path], Any]:
        return lambda folder: ((_saved(folder) / name).unlink(), from_pretrained(folder / "model"))

    def torn(name: str, share: float) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path = _saved(folder) / name
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
            return from_pretrained(folder / "model")

        return run

    yield Case(reader, "no such folder or Hub name", lambda folder: from_pretrained(str(folder / "none")), ("id",))
    yield Case(reader, "an empty folder", from_pretrained)
    for name in ("config.json", "model.safetensors"):
        yield Case(reader, f"without {name}", without(name))
        for share in (0.0, 0.5, 0.99):
            yield Case(reader, f"{name} cut after {share:.0%}", torn(name, share))
    yield Case(reader, "unknown key", edited(lambda c: c | {"colour": 1}), ("path", "id"))
    yield Case(
        reader, "unknown key inside", edited(lambda c: c | {"prompt": c["prompt"] | {"colour": 1}}), ("path", "id")
    )
    for key in ("encoder", "llm", "projector", "prompt", "score_scale", "window", "sha256", "residual"):
        yield Case(reader, f"config without {key}", edited(lambda c, key=key: {k: v for k, v in c.items() if k != key}))  # type: ignore[misc]
        yield Case(reader, f"config with {key} a list", edited(lambda c, key=key: c | {key: []}))  # type: ignore[misc]
    yield Case(reader, "another format", edited(lambda c: c | {"format": 99}))
    yield Case(reader, "config no object", edited(lambda c: [c]))
    yield Case(reader, "weights of another digest", edited(lambda c: c | {"sha256": "0" * 64}))
    other = {"llm": {"name": "/no/such/llm"}, "encoder": {"name": "/no/such/encoder"}}
    yield Case(reader, "its LLM is gone", edited(lambda c: c | {"llm": c["llm"] | other["llm"]}), ("id",))
    yield Case(
        reader, "its encoder is gone", edited(lambda c: c | {"encoder": c["encoder"] | other["encoder"]}), ("id",)
    )
    yield Case(
        reader, "more layers than there are", edited(lambda c: c | {"llm": c["llm"] | {"num_layers": 9}}), ("id",)
    )
    yield Case(reader, "unknown prompt version", edited(lambda c: c | {"prompt": c["prompt"] | {"version": "x"}}), ())
    yield Case(reader, "unknown pooling", edited(lambda c: c | {"encoder": c["encoder"] | {"pooling": "x"}}), ())
    yield Case(reader, "step beyond window", edited(lambda c: c | {"step": 99}), ())
    yield Case(reader, "score scale nan", edited(lambda c: c | {"score_scale": float("nan")}))
    yield Case(reader, "other widths", edited(lambda c: c | {"projector": {"width_in": 9, "width_out": 16}}))
    yield Case(reader, "a tensor missing", weights(lambda s: {k: v for k, v in s.items() if k != "projector.2.bias"}))
    yield Case(reader, "an unknown tensor", weights(lambda s: s | {"projector.9": torch.zeros(1)}))
    yield Case(reader, "a tensor nan", weights(lambda s: s | {"projector.2.bias": torch.full((16,), torch.nan)}))
    yield Case(
        reader, "adapters without settings", weights(lambda s: s | {"llm.x.lora_A.default.weight": torch.zeros(1, 1)})
    )


def _encoders() -> Iterator[Case]:
    def changed(change: Callable[[Path], Any], **options: Any) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            tiny.tiny_encoder(folder / "encoder")
            change(folder / "encoder")
            return Encoder(str(folder / "encoder"), **{"max_length": 32, **options}).encode_passages(["the rain"])

        return run

    def edit(**changes: Any) -> Callable[[Path], Any]:
        def run(folder: Path) -> None:
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return run

    def drop_tensor(folder: Path) -> None:
        path = folder / "model.safetensors"
        state = load_file(path)
        save_file(dict(list(state.items())[1:]), path, metadata={"format": "pt"})

    reader = "encoder"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        yield Case(reader, f"without {name}", changed(lambda f, name=name: (f / name).unlink()), ("id",))  # type: ignore[misc]
        yield Case(reader, f"{name} torn", changed(lambda f, name=name: (f / name).write_bytes(b"{")), ("id",))  # type: ignore[misc]
    yield Case(reader, "a tensor missing", changed(drop_tensor), ("id",))
    yield Case(reader, "ALiBi weights said to be BERT", changed(edit(position_embedding_type="alibi")), ())
    yield Case(reader, "another width in its config", changed(edit(hidden_size=16)), ("id",))
    yield Case(reader, "a tokenizer larger than the model", changed(edit(vocab_size=9)), ("id",))
    yield Case(reader, "longer texts than positions", changed(lambda _: None, max_length=4096), ("id",))
    yield Case(reader, "no room for text", changed(lambda _: None, max_length=1), ("id",))
    yield Case(reader, "unknown pooling", changed(lambda _: None, pooling="best"), ("id",))
    yield Case(reader, "unknown dtype", changed(lambda _: None, dtype="float7"), ())
    yield Case(reader, "no such model", lambda folder: Encoder(str(folder / "none")).width, ("id",))


class _Fixed:
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
        return encode_into(folder / "store", items, _Fixed(vectors, name), shard_rows=3, progress=False)

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
            path.write_bytes(path.read_bytes()[:-1])

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
        yield Case(reader, f"{name} a byte short", damaged(cut(name)))
    yield Case(reader, "a bit of a shard flipped", damaged(flip("shard-00001.bin")))
    yield Case(reader, "a bit of the index flipped", damaged(flip("index-*.bin")))
    for changes in (
        {"width": 0},
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

    yield Case("Reranker", "empty query", lambda _: rerank(" "), ())
    yield Case("Reranker", "over-long query", lambda _: rerank(long), ("id",))
    yield Case("Reranker", "passage that isn't in the store", _from_store, ("id",))


def _from_store(folder: Path) -> Any:
    class Wide(_Fixed):
        width = 8

        def encode_passages(self, texts: Any) -> Any:
            return np.eye(8, dtype=np.float32)[: len(texts)]

    store = encode_into(folder / "store", {"a": "x", "b": "y"}, Wide(), progress=False)
    reranker = Reranker(tiny.tiny_model(), tiny.tiny_prompts(), None, store=store)
    return reranker.rank_batch([Candidates(tiny.QUERY, (Passage("a", "x"), Passage("z", "y")))])
