"""A tiny reranker with a store, and a server of it for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from perank import Reranker
from perank.ranking.windows import Windows
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.serving.application import make_app
from perank.serving.limits import Limits
from support import tiny
from support.served import serving

TEXTS = {f"d{i}": " ".join(tiny.WORDS[i % 20 : i % 20 + 3 + i % 7]) for i in range(60)}


@pytest.fixture(scope="package")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    folder = tmp_path_factory.mktemp("served")
    encoder = tiny.tiny_encoder(folder / "encoder")
    store = encode_into(folder / "store", TEXTS, encoder, StoreOptions(dtype="float32", progress=False))
    return Reranker(tiny.tiny_model(3), tiny.tiny_prompts(), encoder, store=store, windows=Windows(5, 3))


@pytest.fixture(scope="package")
def texts_reranker(reranker: Reranker) -> Reranker:
    """The same model without the store."""
    return Reranker(reranker.model, reranker.prompts, reranker.encoder, windows=reranker.windows)


@pytest.fixture(scope="module")
def client(reranker: Reranker) -> Iterator[httpx.Client]:
    limits = Limits(max_documents=50, max_body_bytes=50_000, max_body_seconds=1.0)
    with serving(make_app(reranker, "tiny", limits=limits)) as address, httpx.Client(base_url=address) as client:
        yield client
