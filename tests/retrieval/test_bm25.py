"""BM25 against the formula written out, laws by hypothesis, and NDCG@10 on real collections."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.records import Passage, Qrels, Query, Run, rank_order
from perank.retrieval.bm25 import Bm25
from perank.sources.beir import BeirCollection
from support.fake_encoders import InMemory, collection

WORDS = ["apple", "berry", "cherry", "date", "elder"]
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
corpora = st.dictionaries(st.text("abé1", min_size=1, max_size=2), texts, min_size=1, max_size=12)


def brute_force(corpus: dict[str, str], query: str, k1: float, b: float) -> dict[str, float]:
    """Lucene's BM25 for texts whose words are separated by blanks."""
    mean_length = sum(len(text.split()) for text in corpus.values()) / len(corpus)
    scores = {}
    for id, text in corpus.items():
        score = 0.0
        for word in query.split():
            holders = sum(word in other.split() for other in corpus.values())
            count = text.split().count(word)
            idf = math.log(1 + (len(corpus) - holders + 0.5) / (holders + 0.5))
            score += idf * count / (count + k1 * (1 - b + b * len(text.split()) / mean_length)) if count else 0.0
        if score > 0:
            scores[id] = score
    return scores


def ndcg_at_10(qrels: Qrels, run: Run) -> float:
    """As trec_eval: gain is the grade, discount log2(rank + 1), ties by id descending."""

    def discounted(grades: list[int]) -> float:
        return sum(max(grade, 0) / math.log2(i + 2) for i, grade in enumerate(grades[:10]))

    total = 0.0
    for id, grades in qrels.items():
        order = sorted(run[id], key=lambda passage: (run[id][passage], passage), reverse=True)
        best = discounted(sorted(grades.values(), reverse=True))
        total += discounted([grades.get(passage, 0) for passage in order]) / best if best else 0.0
    return total / len(qrels)


@settings(deadline=None, max_examples=60)
@given(corpora, texts.filter(bool), st.sampled_from([(0.9, 0.4), (1.2, 0.75), (0.0, 0.0)]))
def test_scores_are_lucenes_formula(corpus: dict[str, str], text: str, parameters: tuple[float, float]):
    k1, b = parameters
    run = Bm25(k1=k1, b=b, stemmer="none").search(collection(corpus, {"q": text}))
    assert run["q"] == pytest.approx(brute_force(corpus, text, k1, b), rel=1e-5)
    assert list(run["q"]) == rank_order(run["q"])


@settings(deadline=None, max_examples=40)
@given(corpora, texts.filter(bool), st.integers(1, 12))
def test_a_shallower_search_is_the_top_of_a_deeper_one(corpus: dict[str, str], text: str, depth: int):
    bm25, asked = Bm25(), collection(corpus, {"q": text})
    deep = bm25.search(asked, depth=50)["q"]
    assert list(bm25.search(asked, depth=depth)["q"].items()) == list(deep.items())[:depth]


def test_equal_scores_at_the_cutoff_are_settled_by_id_descending():
    same = collection(dict.fromkeys("bdac", "apple"), {"q": "apple"})
    assert list(Bm25().search(same, depth=2)["q"]) == ["d", "c"]


def test_a_query_without_a_matching_word_finds_nothing():
    found = Bm25().search(collection({"d": "apple"}, {"stop": "to be", "unknown": "quince", "known": "Apples"}))
    assert found["stop"] == found["unknown"] == {}
    assert list(found["known"]) == ["d"]


def test_a_corpus_of_stop_words_finds_nothing():
    assert Bm25().search(collection({"d": "the", "e": ""}, {"q": "apple"})) == {"q": {}}


def test_the_title_is_searched_with_the_text():
    titled = InMemory({"d": Passage("d", "body", title="Apple"), "e": Passage("e", "body")}, {"q": Query("q", "apple")})
    assert list(Bm25().search(titled)["q"]) == ["d"]


def test_one_searcher_serves_several_collections_and_chosen_queries():
    bm25 = Bm25()
    fruit, trees = collection({"f": "apple"}, {"q": "apple"}), collection({"t": "apple tree"}, {"q": "tree"})
    assert list(bm25.search(fruit)["q"]) == ["f"]
    assert list(bm25.search(trees)["q"]) == ["t"]
    assert list(bm25.search(fruit, [Query("own", "apples")])) == ["own"]


def test_requests_that_make_no_sense_are_refused():
    fruit = collection({"f": "apple"}, {"q": "apple"})
    with pytest.raises(BadInput, match="k1=-1"):
        Bm25(k1=-1)
    with pytest.raises(BadInput, match="0 passages"):
        Bm25().search(fruit, depth=0)
    with pytest.raises(BadInput, match=r"'q'.*given twice"):
        Bm25().search(fruit, [Query("q", "apple"), Query("q", "pear")])
    with pytest.raises(BadInput, match="no passages"):
        Bm25().search(collection({}, {"q": "apple"}))


@pytest.mark.parametrize(
    ("name", "figure"), [("nfcorpus", 0.32), ("cranfield", 0.34), ("med", 0.67), ("cisi", 0.34), ("adi", 0.44)]
)
def test_ndcg_on_real_collections_is_about_the_known_figure(shared: Path, name: str, figure: float):
    real = BeirCollection(shared / "collections" / "beir" / name)
    assert ndcg_at_10(real.qrels, Bm25().search(real)) == pytest.approx(figure, abs=0.035)
