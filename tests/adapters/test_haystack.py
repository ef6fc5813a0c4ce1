from __future__ import annotations

from typing import Any

import pytest

from adapters.conftest import IDS, QUERY, TEXTS
from perank import Reranker
from perank.errors import BadInput

pytest.importorskip("haystack", reason="needs the extra `haystack`")


@pytest.fixture
def documents() -> list[Any]:
    from haystack import Document

    return [Document(id=id, content=text, meta={"from": id}) for id, text in zip(IDS, TEXTS, strict=True)]


def test_the_best_documents_come_back_as_copies(reranker: Reranker, order: list[int], documents: list[Any]) -> None:
    from perank.adapters.haystack import PERankRanker

    found = PERankRanker(ranker=reranker, top_k=4).run(QUERY, documents, top_k=3)["documents"]
    assert [document.id for document in found] == [IDS[i] for i in order[:3]]
    assert [document.meta["from"] for document in found] == [IDS[i] for i in order[:3]]
    assert found[0].score > found[1].score > found[2].score
    assert [document.score for document in documents] == [None] * 5
    assert len(PERankRanker(ranker=reranker, top_k=4).run(QUERY, documents)["documents"]) == 4
    assert PERankRanker(ranker=reranker).run(QUERY, [])["documents"] == []


def test_it_works_in_a_pipeline_after_a_retriever(reranker: Reranker, order: list[int], documents: list[Any]) -> None:
    from haystack import Pipeline
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    from perank.adapters.haystack import PERankRanker

    store = InMemoryDocumentStore()
    store.write_documents(documents)
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=5))
    pipeline.add_component("ranker", PERankRanker(ranker=reranker))
    pipeline.connect("retriever.documents", "ranker.documents")
    asked = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}
    found = pipeline.run(asked, include_outputs_from={"retriever"})
    before = [document.content for document in found["retriever"]["documents"]]
    after = [document.content for document in found["ranker"]["documents"]]
    assert after == [passage.text for passage in reranker.rank(QUERY, before).passages]


def test_settings_survive_a_pipelines_yaml(reranker: Reranker) -> None:
    from haystack import Pipeline

    from perank.adapters.haystack import PERankRanker

    pipeline = Pipeline()
    pipeline.add_component("ranker", PERankRanker("some/model", top_k=7))
    trusted = ["perank.adapters.haystack"]
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=trusted).get_component("ranker")
    assert (again.model, again.top_k, again.device) == ("some/model", 7, "cpu")
    with pytest.raises(BadInput, match="can't be serialised"):
        PERankRanker(ranker=reranker).to_dict()


def test_what_cannot_be_ranked_is_refused(reranker: Reranker) -> None:
    from haystack import Document

    from perank.adapters.haystack import PERankRanker

    with pytest.raises(BadInput, match="no text"):
        PERankRanker(ranker=reranker).run(QUERY, [Document(id="a")])
    with pytest.raises(BadInput, match="top_k is 0"):
        PERankRanker(top_k=0)
