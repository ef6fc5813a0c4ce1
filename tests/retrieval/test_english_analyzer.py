"""Words as Lucene's EnglishAnalyzer splits, filters and stems them; expectations from its documentation."""

from __future__ import annotations

import pytest

from perank.errors import BadInput
from perank.retrieval.bm25 import STOPWORDS, EnglishAnalyzer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Cats' toys", ["cat", "toi"]),
        ("Porter's and Porter\u2019s stemmers", ["porter", "porter", "stemmer"]),
        ("state-of-the-art", ["state", "art"]),
        ("U.S. GDP grew 3,500.25 (2.5%).", ["u.", "gdp", "grew", "3,500.25", "2.5"]),
        ("don't stop", ["don't", "stop"]),
        ("a1.b2 x.1", ["a1", "b2", "x", "1"]),
        ("relational running flies", ["relat", "run", "fli"]),
        ("naïve café", ["naïv", "café"]),
        ("to be or not to be", []),
        ("", []),
    ],
)
def test_words_are_split_lowercased_stopped_and_stemmed(text: str, words: list[str]):
    assert EnglishAnalyzer()(text) == words


def test_stop_words_go_before_stemming():
    assert EnglishAnalyzer()("be being") == ["be"]


def test_there_are_33_stop_words_as_in_lucene():
    assert len(STOPWORDS) == 33


def test_without_a_stemmer_words_keep_their_endings():
    assert EnglishAnalyzer("none")("running Cats") == ["running", "cats"]


def test_an_unknown_stemmer_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match=r"unknown stemmer 'paice'.*porter"):
        EnglishAnalyzer("paice")
