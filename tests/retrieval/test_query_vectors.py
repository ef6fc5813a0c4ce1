"""Query vectors don't depend on who asks first, and unknown queries are refused."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from perank.errors import BadInput
from perank.records import Query
from perank.retrieval.encoding import QueryVectors

QUERIES = {f"q{i}": Query(f"q{i}", f"text {i}") for i in range(10)}


class Sociable:
    """An encoder as sensitive to company as rounding can be: a text's vector holds its batch's first text and size."""

    width = 3

    def __init__(self) -> None:
        self.identity = {"name": "sociable"}
        self.seen: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        numbers = [float(text.split()[1]) for text in texts]
        return np.array([[number, numbers[0], len(texts)] for number in numbers])

    encode_passages = encode_queries


def test_vectors_are_the_same_whoever_asks_first() -> None:
    expected = QueryVectors(QUERIES, Sociable(), block=4).get(list(QUERIES))
    for seed in range(20):
        vectors, order = QueryVectors(QUERIES, Sociable(), block=4), list(QUERIES)
        random.Random(seed).shuffle(order)
        for start in range(0, 10, 3):
            asked = order[start : start + 3]
            np.testing.assert_array_equal(vectors.get(asked), expected[[int(id[1:]) for id in asked]])


def test_each_query_is_encoded_once_and_others_only_with_their_block() -> None:
    encoder = Sociable()
    vectors = QueryVectors(QUERIES, encoder, block=4)
    assert vectors.get(["q5", "q5", "q6"]).shape == (3, 3)
    assert encoder.seen == [f"text {i}" for i in (4, 5, 6, 7)]
    vectors.get(["q9", "q5"])
    assert encoder.seen == [f"text {i}" for i in (4, 5, 6, 7, 8, 9)]
    assert vectors.get(["q1"]).dtype == np.float32


def test_no_queries_have_no_vectors_and_unknown_ones_are_refused() -> None:
    vectors = QueryVectors(QUERIES, Sociable())
    assert vectors.get([]).shape == (0, 3)
    with pytest.raises(BadInput, match="unknown query id") as caught:
        vectors.get(["q1", "q10"])
    assert caught.value.id == "q10"
