from __future__ import annotations

from typing import Any

import pytest

from adapters.conftest import IDS, QUERY, TEXTS
from perank import Reranker
from perank.errors import BadInput

pytest.importorskip("pyterrier", reason="needs the extra `pyterrier`")
OTHER = "the rain falls"


@pytest.fixture
def results() -> Any:
    """The results of two queries, q2 first, as a retriever with `get_text` gives them."""
    import pandas

    rows = [
        {"qid": qid, "query": query, "docno": id, "text": text, "rank": rank, "score": 9.0 - rank, "source": "bm25"}
        for qid, query in (("q2", OTHER), ("q1", QUERY))
        for rank, (id, text) in enumerate(zip(IDS, TEXTS, strict=True))
    ]
    return pandas.DataFrame(rows)


def test_each_query_is_reranked_and_columns_stay(reranker: Reranker, order: list[int], results: Any) -> None:
    from perank.adapters.pyterrier import PERank

    found = PERank(reranker).transform(results)
    assert found["qid"].tolist() == ["q2"] * 5 + ["q1"] * 5
    assert found["rank"].tolist() == [0, 1, 2, 3, 4] * 2
    assert set(found["source"]) == {"bm25"}
    first = found[found["qid"] == "q1"]
    assert first["docno"].tolist() == [IDS[i] for i in order]
    assert first["score"].is_monotonic_decreasing
    assert found[found["qid"] == "q2"]["docno"].tolist() == [IDS[i] for i in reranker.rank(OTHER, TEXTS).order]


def test_candidates_are_read_in_the_order_of_rank(reranker: Reranker, results: Any) -> None:
    from perank.adapters.pyterrier import PERank

    shuffled = results.sample(frac=1, random_state=1)
    expected = PERank(reranker).transform(results).groupby("qid")["docno"].apply(list)
    assert PERank(reranker).transform(shuffled).groupby("qid")["docno"].apply(list).equals(expected)


def test_it_works_behind_a_rank_cutoff_in_a_pipeline(reranker: Reranker, results: Any) -> None:
    import pandas
    import pyterrier as pt

    from perank.adapters.pyterrier import PERank

    pipeline = pt.Transformer.from_df(results) % 3 >> PERank(reranker)
    found = pipeline(pandas.DataFrame([["q1", QUERY]], columns=["qid", "query"]))
    assert found["docno"].tolist() == [IDS[i] for i in reranker.rank(QUERY, TEXTS[:3]).order]
    measured = pt.Experiment(
        [pipeline],
        pandas.DataFrame([["q1", QUERY]], columns=["qid", "query"]),
        pandas.DataFrame([["q1", found["docno"][0], 1]], columns=["qid", "docno", "label"]),
        ["recip_rank"],
    )
    assert measured["recip_rank"][0] == 1.0


def test_empty_results_stay_empty(reranker: Reranker, results: Any) -> None:
    from perank.adapters.pyterrier import PERank

    assert set(PERank(reranker).transform(results.iloc[:0]).columns) == set(results.columns)


def test_missing_texts_and_repeated_documents_are_refused(reranker: Reranker, results: Any) -> None:
    import pandas

    from perank.adapters.pyterrier import PERank

    with pytest.raises(BadInput, match="columns are missing: text"):
        PERank(reranker).transform(results.drop(columns="text"))
    with pytest.raises(BadInput, match="occurs twice for query 'q2'"):
        PERank(reranker).transform(pandas.concat([results, results.iloc[:1]]))
