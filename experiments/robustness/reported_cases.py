"""Cases of the kinds that users of such tools report (faults.csv), for what is called from Python."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from cases import Case
from model_cases import saved_model

from perank import Reranker
from perank.baselines.loading import CrossEncoderRanker
from perank.model.encoders.encoder import Encoder
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.prompts import PromptBuilder
from perank.records import Candidates, Passage, Query
from perank.retrieval.encoding import StoreOptions, encode_into
from support import tiny
from support.published_encoders import READ, describe, save_family

Run = Callable[[Path], Any]


def cases() -> Iterator[Case]:
    """All cases, kinds 7 to 13 and 18."""
    yield from _loading()
    yield from _processes()
    yield from _shortening()
    yield from _published()
    yield from _templates()
    yield from _moved()
    yield from _odd_passages()
    yield from _batches()


def _loading() -> Iterator[Case]:
    def load(**options: Any) -> Run:
        return lambda folder: Reranker.from_pretrained(saved_model(folder), **options)

    for options in (
        {"torch_dtpye": "auto"},
        {"colour": 1},
        {"dtype": torch.int8},
        {"dtype": "float32", "torch_dtype": "float32"},
        {"device_map": {"model.layers.0": "cpu", "model.layers.1": "cpu"}},
        {"device": "meta"},
        {"device": True},
        {"attn_implementation": "flash_attention_2"},
        {"trust_remote_code": "yes"},
        {"revision": 3},
        {"token": 5, "device": "abacus"},
    ):
        yield Case("from_pretrained", f"with {options}", load(**options), ())
    for name in (5, "", " ", "./nowhere", "/no/where", "~nobody-of-this-name/model"):
        yield Case("from_pretrained", f"of {name!r}", lambda _, name=name: Reranker.from_pretrained(name), ())  # type: ignore[misc]
    yield Case(
        "from_pretrained", "of a file", lambda f: Reranker.from_pretrained(saved_model(f) / "config.json"), ("path",)
    )


def _reranker(folder: Path, **options: Any) -> Reranker:
    model = tiny.tiny_model(5, dtype=torch.float32)
    return Reranker(model, tiny.tiny_prompts(), tiny.tiny_encoder(folder / "encoder"), **options)


def _processes() -> Iterator[Case]:
    def without_encoder(folder: Path) -> Any:
        sent = pickle.dumps(_reranker(folder))
        shutil.rmtree(folder / "encoder")
        return pickle.loads(sent).rank("sea", ["rain", "bread"])

    def without_store(folder: Path) -> Any:
        encoder = tiny.tiny_encoder(folder / "encoder")
        store = encode_into(folder / "store", {"a": "sea", "b": "rain"}, encoder, StoreOptions(progress=False))
        sent = pickle.dumps(_reranker(folder, store=store))
        shutil.rmtree(folder / "store")
        candidates = Candidates(Query("q", "sea"), (Passage("a", ""), Passage("b", "")))
        return pickle.loads(sent).rank_batch([candidates])

    yield Case("processes", "the encoder is gone where it is unpickled", without_encoder, ("id",))
    yield Case("processes", "the store is gone where it is unpickled", without_store)


def _shortening() -> Iterator[Case]:
    for chunk in (0, -1, 2.5, "10", True):
        yield Case("chunks", f"chunk={chunk!r}", lambda folder, chunk=chunk: _reranker(folder, chunk=chunk), ())  # type: ignore[misc]
    parts = lambda: (tiny.tiny_model(5), tiny.tiny_prompts())  # noqa: E731
    yield Case("chunks", "without an encoder", lambda _: Reranker(*parts(), chunk=10).rank("sea", ["a"]), ())


def _published() -> Iterator[Case]:
    def read(change: Callable[[Path], Any] = lambda folder: None, **said: Any) -> Run:
        def run(folder: Path) -> Any:
            change(describe(save_family(folder, "bert"), **said))
            return Encoder(str(folder), max_length=30).encode_passages(["sea"])

        return run

    def module(change: dict[str, Any], number: int = 1) -> Callable[[Path], Any]:
        def edit(folder: Path) -> None:
            path = folder / "modules.json"
            modules = json.loads(path.read_text())
            modules[number] |= change
            path.write_text(json.dumps(modules))

        return edit

    reader = "published encoder"
    for pooling in ("cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken", "none"):
        yield Case(reader, f"pooling {pooling}, read as a mean", read(pooling=pooling), ("id",))
    yield Case(reader, "a prompt of queries left out", read(query="search : "), ("id",))
    yield Case(reader, "a prompt of passages left out", read(document="passage : "), ("id",))
    yield Case(reader, "a module that perank lacks", read(module({"type": "x.LSTM"})), ("id",))
    yield Case(reader, "static vectors of another library", read(module({"type": "x.StaticEmbedding"}, 0)), ("id",))
    bare = read(lambda folder: (folder / "2_Dense" / "model.safetensors").unlink(), dense=5)
    yield Case(reader, "a dense layer without weights", bare, ("id",))
    for family in ("roberta", "xlm-roberta", "mpnet"):

        def longer(folder: Path, family: str = family) -> Any:
            name = str(save_family(folder, family))
            return Encoder(name, max_length=READ[family] + 1).encode_passages(["sea"])

        def longer_pair(folder: Path, family: str = family) -> Any:
            name = str(save_family(folder, family, labels=1))
            return CrossEncoderRanker(name=name, dtype="float32", device="cpu", max_length=READ[family] + 1)

        yield Case(reader, f"{family}: a position too many", longer, ("id",))
        yield Case("published cross-encoder", f"{family}: a position too many", longer_pair, ("id",))


def _templates() -> Iterator[Case]:
    def builder(template: str | None, version: str = "paper") -> PromptBuilder:
        tokenizer = tiny.tiny_tokenizer()
        tokenizer.chat_template = template
        return PromptBuilder(tokenizer, version)

    reader = "chat template"
    for version in ("paper", "reference"):
        yield Case(reader, f"none, {version}", lambda _, version=version: builder(None, version).rank("sea", 3), ())  # type: ignore[misc]
    listwise = lambda _: ListwisePrompts(builder(None).tokenizer, "rankmistral").rank("sea", ["a"])  # noqa: E731
    yield Case(reader, "none, listwise", listwise, ())
    for template in (
        "{{ raise_exception('never') }}",
        "{% for m in %}",
        "{{ messages[7]['content'] }}",
        "{{ messages | length + 'a' }}",
        "[INST] [/INST]",
        "{{ messages[0]['content'] }} {{ messages[0]['content'] }}",
    ):
        yield Case(reader, template, lambda _, template=template: builder(template).in_chat("rank", "Be brief."), ())  # type: ignore[misc]


def _moved() -> Iterator[Case]:
    def renamed(part: str, name: str) -> Run:
        def run(folder: Path) -> Any:
            path = saved_model(folder) / "config.json"
            content = json.loads(path.read_text())
            content[part]["name"] = name
            path.write_text(json.dumps(content))
            shutil.move(folder / "model", folder / "moved")
            return Reranker.from_pretrained(folder / "moved").rank("sea", ["rain", "bread"])

        return run

    for part in ("llm", "encoder"):
        for name in ("./base", "../base", "world/base", ""):
            yield Case("moved model", f"its {part} was {name!r}", renamed(part, name), ())


def _odd_passages() -> Iterator[Case]:
    def ranked(query: Any, documents: Any) -> Run:
        return lambda folder: _reranker(folder).rank(query, documents)

    texts = ["rain", "bread"]
    for query in ("", " ", "\n\t", None, "x\ud83d"):
        yield Case("odd texts", f"query {query!r}", ranked(query, texts), ())
    for documents in ([{"id": "x"}], [{"text": None}], [{"text": ["a"]}], [Passage("p", None)], {"text": "a"}, [b"a"]):  # type: ignore[arg-type]
        yield Case("odd texts", f"passages {documents!r}", ranked("sea", documents), ())


def _batches() -> Iterator[Case]:
    candidates = Candidates(Query("q", "sea"), (Passage("a", "rain"), Passage("b", "bread")))
    for batch in (candidates, None, ["a"], [Candidates(Query("q", " "), ())]):
        ranked = lambda folder, batch=batch: _reranker(folder).rank_batch(batch)  # noqa: E731
        yield Case("batches", f"of {type(batch).__name__}", ranked, ())
    for options in (
        {"batch_tokens": 0},
        {"batch_tokens": "8"},
        {"windows": 20},
        {"decoder": None},
        {"decoder": "bf16"},
    ):
        yield Case("batches", f"{options}", lambda folder, options=options: _reranker(folder, **options), ())  # type: ignore[misc]
