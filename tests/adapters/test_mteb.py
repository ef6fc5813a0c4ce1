from __future__ import annotations

from typing import Any

import pytest

from adapters.conftest import IDS, QUERY, TEXTS
from perank import Reranker
from perank.errors import BadInput
from perank.files import sha256_of_text

pytest.importorskip("mteb", reason="needs the extra `mteb`")
QUERIES = [{"id": "q1", "text": QUERY}, {"id": "q2", "text": QUERY}]


@pytest.fixture(scope="module")
def model(reranker: Reranker) -> Any:
    from datasets import Dataset

    from perank.adapters.mteb import PERankSearch

    model = PERankSearch(reranker, name="mine/model")
    model.index(Dataset.from_dict({"id": IDS, "text": TEXTS, "title": [""] * 5}), hf_split="test")
    return model


def test_mteb_evaluates_a_reranking_task(reranker: Reranker) -> None:
    import mteb
    from mteb.mocks.mock_tasks.reranking import MockRerankingTask

    from perank.adapters.mteb import PERankSearch

    model = PERankSearch(reranker, name="mine/model", revision="1")
    found = mteb.evaluate(model, MockRerankingTask(), cache=None)
    assert found.model_name == "mine/model"
    scores = found.task_results[0].scores["test"][0]
    assert scores["recall_at_1"] in (0.0, 0.5, 1.0)
    assert scores["recall_at_3"] == 1.0


def test_scores_do_not_depend_on_the_order_of_a_tasks_candidates(model: Any, reranker: Reranker) -> None:
    found = model.search(QUERIES, top_k=5, top_ranked={"q1": IDS, "q2": IDS[:3]})
    again = model.search(QUERIES, top_k=2, top_ranked={"q1": IDS[::-1], "q2": IDS[2::-1]})
    assert {id: list(scores)[:2] for id, scores in found.items()} == {id: list(again[id]) for id in found}
    hashed = sorted(IDS, key=lambda id: sha256_of_text(f"q1 {id}"))
    expected = reranker.rank(QUERY, [TEXTS[IDS.index(id)] for id in hashed]).order
    assert list(found["q1"]) == [hashed[i] for i in expected]
    assert set(found["q2"]) == set(IDS[:3])


def test_a_first_stages_order_can_be_kept(model: Any, reranker: Reranker, order: list[int]) -> None:
    from perank.adapters.mteb import PERankSearch

    ordered = PERankSearch(reranker, keep_order=True)
    ordered.index(model._corpus)
    found = ordered.search(QUERIES[:1], top_k=5, top_ranked={"q1": IDS})
    assert list(found["q1"]) == [IDS[i] for i in order]


def test_tasks_without_candidates_are_refused(model: Any) -> None:
    with pytest.raises(BadInput, match="the task has no candidates"):
        model.search(QUERIES, top_k=5)
    with pytest.raises(BadInput, match="'q2': the query has no candidates"):
        model.search(QUERIES, top_k=5, top_ranked={"q1": IDS})
    with pytest.raises(BadInput, match="'gone': a candidate is not in the corpus"):
        model.search(QUERIES[:1], top_k=5, top_ranked={"q1": [*IDS, "gone"]})
