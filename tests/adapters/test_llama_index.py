from __future__ import annotations

from typing import Any

import pytest

from adapters.conftest import IDS, QUERY, TEXTS
from perank import Reranker
from perank.errors import BadInput

pytest.importorskip("llama_index.core", reason="needs the extra `llama-index`")


@pytest.fixture
def nodes() -> list[Any]:
    from llama_index.core.schema import NodeWithScore, TextNode

    return [NodeWithScore(node=TextNode(text=t, id_=i), score=0.1) for i, t in zip(IDS, TEXTS, strict=True)]


def test_the_best_nodes_come_back_with_new_scores(reranker: Reranker, order: list[int], nodes: list[Any]) -> None:
    from perank.adapters.llama_index import PERankPostprocessor

    found = PERankPostprocessor(ranker=reranker, top_n=3).postprocess_nodes(nodes, query_str=QUERY)
    assert [node.node.node_id for node in found] == [IDS[i] for i in order[:3]]
    assert found[0].score > found[1].score > found[2].score
    assert {node.score for node in nodes} == {0.1}
    assert PERankPostprocessor(ranker=reranker).postprocess_nodes([], query_str=QUERY) == []


def test_it_works_in_a_query_engine(
    reranker: Reranker, order: list[int], nodes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_index.core import Settings
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers import get_response_synthesizer
    from llama_index.core.retrievers import BaseRetriever

    from perank.adapters.llama_index import PERankPostprocessor

    class Fixed(BaseRetriever):
        def _retrieve(self, query_bundle: Any) -> list[Any]:
            return nodes

    monkeypatch.setattr(Settings, "_llm", MockLLM())
    synthesizer = get_response_synthesizer(response_mode="no_text")
    engine = RetrieverQueryEngine(
        Fixed(), synthesizer, node_postprocessors=[PERankPostprocessor(ranker=reranker, top_n=2)]
    )
    assert [node.node.node_id for node in engine.query(QUERY).source_nodes] == [IDS[i] for i in order[:2]]


def test_a_query_is_needed(reranker: Reranker, nodes: list[Any]) -> None:
    from perank.adapters.llama_index import PERankPostprocessor

    with pytest.raises(BadInput, match="no query"):
        PERankPostprocessor(ranker=reranker).postprocess_nodes(nodes)
