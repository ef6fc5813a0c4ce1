"""Clients that people already have, pointed at the server: they get `Reranker`'s rankings."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from perank import Reranker
from serving.conftest import TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets clients leave open
QUERY, DOCUMENTS = "which otter holds hands", list(TEXTS.values())[:12]


@pytest.fixture
def address(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


@pytest.fixture
def order(texts_reranker: Reranker) -> list[int]:
    return list(texts_reranker.rank(QUERY, DOCUMENTS).order)


@pytest.fixture(autouse=True)
def _sockets_are_closed_here() -> Iterator[None]:
    """Collect the clients' unclosed sockets before another file's tests, which would report them as theirs."""
    yield
    gc.collect()


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # without the network
    module = pytest.importorskip("litellm", reason="needs the package litellm")
    yield module
    module.in_memory_llm_clients_cache.flush_cache()  # it keeps every client


def test_cohere(address: str, order: list[int]) -> None:
    cohere = pytest.importorskip("cohere", reason="needs the package cohere")
    client = cohere.ClientV2(api_key="none", base_url=address)
    found = client.rerank(model="tiny", query=QUERY, documents=DOCUMENTS, top_n=5)
    assert [result.index for result in found.results] == order[:5]
    scores = [result.relevance_score for result in found.results]
    assert scores == sorted(scores, reverse=True)
    assert found.meta.billed_units.search_units == 1
    with pytest.raises(cohere.NotFoundError):
        client.rerank(model="another", query=QUERY, documents=DOCUMENTS)
    with pytest.raises(cohere.UnprocessableEntityError):
        client.rerank(model="tiny", query=" ", documents=DOCUMENTS)


@pytest.mark.parametrize("provider", ["cohere", "jina_ai"])
def test_litellm(address: str, order: list[int], provider: str, litellm: Any) -> None:
    found = litellm.rerank(
        model=f"{provider}/tiny", query=QUERY, documents=DOCUMENTS, top_n=5, api_base=address, api_key="none"
    )
    assert [result["index"] for result in found.results] == order[:5]


@pytest.mark.parametrize("provider", ["cohere", "jina"])
def test_rerankers(address: str, order: list[int], provider: str) -> None:
    pytest.importorskip("rerankers", reason="needs the package rerankers")
    from rerankers.models.api_rankers import APIRanker

    ranker = APIRanker("tiny", "none", provider, url=f"{address}/v1/rerank")
    found = ranker.rank(QUERY, DOCUMENTS)
    assert [result.doc_id for result in found] == order
    assert found.top_k(1)[0].text == DOCUMENTS[order[0]]
