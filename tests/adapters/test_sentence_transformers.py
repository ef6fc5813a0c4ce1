from __future__ import annotations

import numpy as np
import pytest

from adapters.conftest import QUERY, TEXTS
from perank import Reranker
from perank.adapters.sentence_transformers import PERankCrossEncoder
from perank.errors import BadInput
from perank.files import sha256_of_text


def test_rank_has_the_shape_of_a_cross_encoders(reranker: Reranker, order: list[int]) -> None:
    found = PERankCrossEncoder(reranker).rank(QUERY, TEXTS, top_k=3, return_documents=True, batch_size=8)
    assert [result["corpus_id"] for result in found] == order[:3]
    assert [result["text"] for result in found] == [TEXTS[i] for i in order[:3]]
    assert found[0]["score"] > found[1]["score"] > found[2]["score"]
    assert PERankCrossEncoder(reranker).rank(QUERY, []) == []


def test_predict_ranks_each_querys_pairs_together_whatever_their_order(reranker: Reranker) -> None:
    other = "the rain falls"
    pairs = [pair for text in TEXTS for pair in ((QUERY, text), (other, text))]
    scores = PERankCrossEncoder(reranker).predict(pairs, convert_to_tensor=False, show_progress_bar=False)
    assert scores.dtype == np.float32 and scores.shape == (10,)
    hashed = sorted(TEXTS, key=sha256_of_text)
    for query, found in ((QUERY, scores[0::2]), (other, scores[1::2])):
        expected = [passage.text for passage in reranker.rank(query, hashed).passages]
        assert [TEXTS[i] for i in np.argsort(-found)] == expected
    shuffled = np.random.default_rng(0).permutation(10)
    assert (PERankCrossEncoder(reranker).predict([pairs[i] for i in shuffled]) == scores[shuffled]).all()
    assert PERankCrossEncoder(reranker).predict((QUERY, TEXTS[0])) == 0.5
    assert PERankCrossEncoder(reranker).predict([]).shape == (0,)
    assert PERankCrossEncoder(reranker).predict(pairs, convert_to_tensor=True).tolist() == scores.tolist()


@pytest.mark.parametrize("pairs", [[(QUERY,)], [(QUERY, TEXTS[0], "more")], [(QUERY, None)]])
def test_what_is_no_pair_of_texts_is_refused(reranker: Reranker, pairs: list) -> None:  # type: ignore[type-arg]
    with pytest.raises(BadInput, match="number 0 is not a pair of texts"):
        PERankCrossEncoder(reranker).predict(pairs)


def test_the_librarys_evaluator_takes_it(reranker: Reranker) -> None:
    pytest.importorskip("sentence_transformers", reason="needs sentence-transformers")
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    ranked = reranker.rank(QUERY, sorted(TEXTS, key=sha256_of_text)).passages
    for place, passage in enumerate(ranked, start=1):
        others = [text for text in TEXTS if text != passage.text]
        samples = [{"query": QUERY, "positive": [passage.text], "negative": others}]
        evaluator = CrossEncoderRerankingEvaluator(samples, write_csv=False, show_progress_bar=False)
        found = evaluator(PERankCrossEncoder(reranker))
        assert [value for name, value in found.items() if name.endswith("mrr@10")] == [pytest.approx(1 / place)]
