from __future__ import annotations

import asyncio

import pytest

from adapters.conftest import IDS, QUERY, TEXTS
from perank import Reranker
from perank.errors import BadInput

pytest.importorskip("rerankers", reason="needs the extra `rerankers`")


def test_results_have_scores_ranks_ids_and_metadata(reranker: Reranker, order: list[int]) -> None:
    from rerankers import Document

    from perank.adapters.rerankers import PERankRanker

    documents = [Document(text, doc_id=id, metadata={"from": id}) for id, text in zip(IDS, TEXTS, strict=True)]
    found = PERankRanker(reranker).rank(QUERY, documents)
    assert found.has_scores and found.query == QUERY
    assert [result.doc_id for result in found] == [IDS[i] for i in order]
    assert [result.rank for result in found] == [1, 2, 3, 4, 5]
    assert [result.document.metadata["from"] for result in found.top_k(2)] == [IDS[i] for i in order[:2]]
    assert found.get_score_by_docid(IDS[order[0]]) == found[0].score > found[1].score


def test_texts_ids_and_async(reranker: Reranker, order: list[int]) -> None:
    from perank.adapters.rerankers import PERankRanker

    ranker = PERankRanker(reranker)
    assert [result.doc_id for result in ranker.rank(QUERY, TEXTS)] == order
    assert [result.doc_id for result in ranker.rank(QUERY, TEXTS, doc_ids=IDS)] == [IDS[i] for i in order]
    assert [result.doc_id for result in asyncio.run(ranker.rank_async(QUERY, TEXTS))] == order
    assert ranker.rank(QUERY, []).results == []


def test_images_and_single_documents_are_refused(reranker: Reranker) -> None:
    from rerankers import Document

    from perank.adapters.rerankers import PERankRanker

    with pytest.raises(BadInput, match="no text"):
        PERankRanker(reranker).rank(QUERY, [Document(document_type="image", base64="AAAA", doc_id="a")])
    with pytest.raises(BadInput, match="rank it together"):
        PERankRanker(reranker).score(QUERY, TEXTS[0])
