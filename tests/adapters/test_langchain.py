from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters.conftest import IDS, QUERY, TEXTS
from perank import Reranker

pytest.importorskip("langchain_core", reason="needs the extra `langchain`")


@pytest.fixture
def documents() -> list[Any]:
    from langchain_core.documents import Document

    return [Document(text, id=id, metadata={"from": id}) for id, text in zip(IDS, TEXTS, strict=True)]


def test_the_best_documents_come_back_with_their_metadata(
    reranker: Reranker, order: list[int], documents: list[Any]
) -> None:
    from perank.adapters.langchain import PERankCompressor

    found = PERankCompressor(ranker=reranker, top_n=3).compress_documents(documents, QUERY)
    assert [document.id for document in found] == [IDS[i] for i in order[:3]]
    assert [document.metadata["from"] for document in found] == [IDS[i] for i in order[:3]]
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert all("relevance_score" not in document.metadata for document in documents)
    assert PERankCompressor(ranker=reranker).compress_documents([], QUERY) == []


def test_it_works_asynchronously_and_in_a_chain(reranker: Reranker, order: list[int], documents: list[Any]) -> None:
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnableLambda, RunnablePassthrough

    from perank.adapters.langchain import PERankCompressor

    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Any]:
            return documents

    compressor = PERankCompressor(ranker=reranker)
    found = asyncio.run(compressor.acompress_documents(documents, QUERY))
    assert [document.id for document in found] == [IDS[i] for i in order]
    chain = {"documents": Fixed(), "query": RunnablePassthrough()} | RunnableLambda(
        lambda found: compressor.compress_documents(found["documents"], found["query"])
    )
    assert [document.id for document in chain.invoke(QUERY)] == [IDS[i] for i in order]


def test_settings_are_checked(reranker: Reranker) -> None:
    from pydantic import ValidationError

    from perank.adapters.langchain import PERankCompressor

    with pytest.raises(ValidationError):
        PERankCompressor(ranker=reranker, top_n=0)
    with pytest.raises(ValidationError):
        PERankCompressor(ranker=reranker, top_k=3)
