"""Dense retrieval and reranking by the encoder against brute force in fp64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.baselines.encoder_ranker import EncoderRanker
from perank.errors import BadInput
from perank.records import Candidates, Passage, Query, Ranker, Ranking
from perank.retrieval import dense
from perank.retrieval.dense import Dense, nearest
from perank.retrieval.device_vectors import DeviceVectors
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.retrieval.store import EmbeddingStore
from support.fake_encoders import HashEncoder, InMemory, collection

# Few distinct texts, so that many passages have equal vectors.
corpora = st.dictionaries(st.text("abé12", min_size=1, max_size=3), st.sampled_from("uvwxyz"), min_size=1, max_size=40)


def brute_force(corpus: dict[str, str], query: str, encoder: HashEncoder, dtype: str) -> list[tuple[str, float]]:
    """All passages by fp64 inner products with what the store holds, rounded to fp32; ties by id descending."""
    vector = encoder.vector(query).astype(np.float64)
    scores = {}
    for id, text in corpus.items():
        stored = encoder.vector(text).astype(dtype).astype(np.float64)
        scores[id] = float(np.float32(sum(float(a) * float(b) for a, b in zip(vector, stored, strict=True))))
    return sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@settings(deadline=None, max_examples=40)
@given(corpora, st.integers(1, 45), st.integers(1, 7), st.integers(1, 5), st.booleans())
def test_the_nearest_passages_are_found_whatever_the_chunks_and_wherever_the_vectors_are(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    corpus: dict[str, str],
    depth: int,
    shard_rows: int,
    rows: int,
    keep: bool,
):
    encoder, asked = HashEncoder(), collection(corpus, {"q1": "one", "q2": "another", "q3": "u"})
    folder = tmp_path_factory.mktemp("store")
    store = encode_into(folder, corpus, encoder, StoreOptions(dtype=dtype, shard_rows=shard_rows, progress=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_chunk_rows", lambda *_: rows)
        patch.setattr(dense, "_QUERIES", 2)
        patch.setattr(DeviceVectors, "_fits", lambda _: keep)
        run = Dense(encoder, store, block=2).search(asked, depth=depth)
    for id, query in asked.queries.items():
        expected = brute_force(corpus, query.text, encoder, dtype)[:depth]
        assert list(run[id]) == [id for id, _ in expected]
        assert list(run[id].values()) == pytest.approx([score for _, score in expected], abs=2e-7)


def test_scores_do_not_depend_on_the_company_of_a_query():
    asked = collection({str(i): f"text {i}" for i in range(300)}, {f"q{i}": f"query {i}" for i in range(40)})
    searcher = Dense(HashEncoder(width=48), depth=10)
    together = searcher.search(asked)
    assert list(together) == list(asked.queries)
    alone = {id: searcher.search(asked, [query])[id] for id, query in asked.queries.items()}
    assert alone == together
    assert [list(run) for run in alone.values()] == [list(run) for run in together.values()]


@pytest.mark.parametrize("order", ["random", "better and better", "equal"])
@pytest.mark.parametrize("keep", [False, True])
def test_thousands_of_queries_find_in_one_pass_what_all_scores_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, keep: bool
) -> None:
    dice, depth = np.random.default_rng(0), 20
    vectors_NE = dice.standard_normal((3000, 16))
    if order == "better and better":  # every chunk beats all before it
        vectors_NE = np.sort(vectors_NE[:, :1], axis=0) * [1.0, *[0.0] * 15] + 0.01 * vectors_NE
    elif order == "equal":
        vectors_NE = np.repeat(vectors_NE[:100], 30, axis=0)
    vectors_NE = (vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)).astype(np.float32)
    queries_QE = torch.nn.functional.normalize(torch.from_numpy(dice.standard_normal((2100, 16)).astype(np.float32)))
    encoder = Listed(vectors_NE)
    store = encode_into(tmp_path, encoder.texts, encoder, StoreOptions(shard_rows=700, progress=False))
    monkeypatch.setattr(DeviceVectors, "_fits", lambda _: keep)
    stored_NE = vectors_NE.astype(np.float16).astype(np.float64)
    found = nearest(DeviceVectors(store), queries_QE, depth)
    for query_E, rows in zip(queries_QE.double().numpy(), found, strict=True):
        scores_N = stored_NE @ query_E
        last = np.sort(scores_N)[-depth]
        assert set(np.flatnonzero(scores_N >= last)) <= set(rows.tolist())
        assert scores_N[rows].min() >= last - 1e-5  # and no others than fp32 can't tell from the last


def test_a_gpus_vectors_are_read_from_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = collection({str(i): f"text {i}" for i in range(30)}, {f"q{i}": f"query {i}" for i in range(7)})
    store = encode_into(tmp_path, {p.id: p.text for p in asked.passages.values()}, HashEncoder(), StoreOptions())
    shards, reads = store.shards, []
    monkeypatch.setattr(store, "shards", lambda: reads.append(1) or shards())
    monkeypatch.setattr(dense, "_QUERIES", 2)
    mapped = Dense(HashEncoder(), store, block=2).search(asked)
    assert len(reads) == 4
    monkeypatch.setattr(DeviceVectors, "_fits", lambda _: True)
    searcher = Dense(HashEncoder(), store, block=2)
    assert [searcher.search(asked), searcher.search(asked)] == [mapped, mapped]
    assert len(reads) == 5


def test_queries_are_encoded_in_blocks_however_many_are_searched_together() -> None:
    asked, encoder, sizes = collection({"a": "x"}, {f"q{i}": f"query {i}" for i in range(7)}), HashEncoder(), []
    encode = encoder.encode_queries
    encoder.encode_queries = lambda texts: sizes.append(len(texts)) or encode(texts)  # type: ignore[method-assign]
    Dense(encoder, block=3).search(asked)
    assert sizes == [3, 3, 1]


def test_the_collections_store_is_made_once_and_reused(own_cache: Path):
    encoder, asked = HashEncoder(), collection({"a": "x", "b": "y"}, {"q": "z"})
    Dense(encoder).search(asked)
    Dense(encoder).search(asked)
    assert encoder.seen == 2 + 2 * 1
    assert len(list((own_cache / "embeddings").iterdir())) == 1


def test_a_store_of_another_encoder_or_another_corpus_is_refused(tmp_path: Path):
    store = filled(tmp_path, {"a": "x"})
    for refuses in (Dense, EncoderRanker):
        with pytest.raises(BadInput, match="pooling: 'mean' in it, 'cls' here"):
            refuses(HashEncoder(pooling="cls"), store)
    with pytest.raises(BadInput, match="holds 1 passages, the collection 2"):
        Dense(HashEncoder(), store).search(collection({"a": "x", "b": "y"}))
    with pytest.raises(BadInput, match="0 passages per query"):
        Dense(HashEncoder(), store, depth=0).search(collection({"a": "x"}))


class Listed(HashEncoder):
    """Given vectors, for texts that are their numbers."""

    def __init__(self, vectors_NE: np.ndarray) -> None:
        super().__init__(vectors_NE.shape[1])
        self.vectors_NE, self.texts = vectors_NE, {f"p{i}": str(i) for i in range(len(vectors_NE))}

    def vector(self, text: str) -> np.ndarray:
        return self.vectors_NE[int(text)]


def filled(folder: Path, texts: dict[str, str]) -> EmbeddingStore:
    return encode_into(folder, texts, HashEncoder(), StoreOptions(dtype="float32", progress=False))


def candidates(texts: dict[str, str], query: str = "query") -> Candidates:
    return Candidates(Query("q", query), tuple(Passage(id, text) for id, text in texts.items()))


@settings(deadline=None, max_examples=40)
@given(corpora)
def test_candidates_are_ordered_by_inner_product_then_id(corpus: dict[str, str]):
    ranker = EncoderRanker(HashEncoder())
    assert isinstance(ranker, Ranker)
    (ranking,) = ranker.rank_batch([candidates(corpus)])
    assert ranking.passage_ids == [id for id, _ in brute_force(corpus, "query", HashEncoder(), "float32")]
    assert ranking.bill.seconds_encode == ranking.bill.seconds > 0


def test_a_store_ranks_without_encoding_passages_and_gives_the_same_order(tmp_path: Path):
    texts = {f"p{i}": f"text {i}" for i in range(20)}
    encoder = HashEncoder()
    (stored,) = EncoderRanker(encoder, filled(tmp_path, texts)).rank_batch([candidates(texts)])
    assert encoder.seen == 1
    assert stored.order == EncoderRanker(encoder).rank_batch([candidates(texts)])[0].order
    with pytest.raises(BadInput, match="'new'"):
        EncoderRanker(encoder, filled(tmp_path, texts)).rank_batch([candidates({"new": "text"})])


def test_no_candidates_are_ranked_as_none():
    none = candidates({})
    assert EncoderRanker(HashEncoder()).rank_batch([none, none]) == [Ranking(none, ())] * 2


def test_titles_are_part_of_what_is_encoded():
    titled = Candidates(Query("q", "query"), (Passage("a", "text", "title"), Passage("b", "title text")))
    (ranking,) = EncoderRanker(HashEncoder()).rank_batch([titled])
    assert ranking.passage_ids == ["b", "a"]  # equal vectors


def test_dense_and_ranker_agree_on_a_whole_corpus():
    corpus: InMemory = collection({f"p{i}": f"text {i}" for i in range(30)}, {"q": "query"})
    run = Dense(HashEncoder(), depth=30).search(corpus)
    (ranking,) = EncoderRanker(HashEncoder()).rank_batch([candidates({id: f"text {id[1:]}" for id in corpus.passages})])
    # the store rounds to fp16, so only clearly different scores must agree
    assert ranking.passage_ids[0] == next(iter(run["q"]))
