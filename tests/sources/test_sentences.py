"""Sentences of judged passages as queries: their own passage is the answer, and nothing unjudged is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.records import Passage, Qrels, Query
from perank.sources.sentences import WithSentences, sentence_queries, span_queries

PASSAGES = {
    "a": Passage("a", "Too short. This sentence has enough\n words in it. So does this one, with a comma."),
    "b": Passage("b", "Nobody asked for this passage of the corpus. It stays unread by everyone here."),
    "c": Passage("c", "Word " * 40 + "in one endless sentence. 1 2 3 4 5 6 + 7 * 8 = (9 / 10)."),
}
QRELS = {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}}


@dataclass(frozen=True)
class Small:
    name: str = "small"
    queries: dict[str, Query] = field(default_factory=lambda: {id: Query(id, f"what is {id}") for id in QRELS})
    passages: dict[str, Passage] = field(default_factory=lambda: PASSAGES)
    qrels: Qrels = field(default_factory=lambda: QRELS)
    runs: dict[str, Any] = field(default_factory=lambda: {"bm25": {"q1": {"a": 1.0}}})


def test_readable_sentences_of_relevant_passages_become_queries_whose_answer_is_the_passage() -> None:
    queries, qrels = sentence_queries(PASSAGES, QRELS, each=5)
    texts = {query.text for query in queries.values()}
    assert texts == {"This sentence has enough words in it.", "So does this one, with a comma."}
    assert all(grades == {"a": 1} for grades in qrels.values())
    assert queries.keys() == qrels.keys()


def test_no_more_sentences_are_taken_than_asked_for_and_the_same_ones_every_time() -> None:
    once, again = (sentence_queries(PASSAGES, QRELS, each=1, seed=3)[0] for _ in range(2))
    assert once == again
    assert len(once) == 1


def test_a_collection_keeps_its_own_queries_first_and_its_passages_as_they_are() -> None:
    grown = WithSentences(Small(), each=5)
    assert list(grown.queries)[:2] == ["q1", "q2"]
    assert len(grown.queries) == len(grown.qrels) == 4
    assert {id: grown.qrels[id] for id in QRELS} == QRELS
    assert (grown.name, grown.passages, grown.runs) == ("small", PASSAGES, {"bm25": {"q1": {"a": 1.0}}})
    with pytest.raises(BadInput, match="0 sentences"):
        WithSentences(Small(), each=0)


def test_runs_of_words_come_behind_the_sentences_and_are_what_their_ids_say() -> None:
    grown = WithSentences(Small(), each=5, spans=30)
    sentences = WithSentences(Small(), each=5)
    assert list(grown.queries)[: len(sentences.queries)] == list(sentences.queries)
    runs = [query for query in grown.queries.values() if query.id.startswith("w:")]
    assert {id for query in runs for id in grown.qrels[query.id]} == {"a", "c"}
    lengths = set()
    for query in runs:
        passage, _, place = query.id.removeprefix("w:").partition("#")
        first, length = map(int, place.split("+"))
        assert query.text.split() == PASSAGES[passage].text.split()[first : first + length]
        lengths.add(length)
    assert min(lengths) == 4
    assert max(lengths) == 20
    assert span_queries(PASSAGES, QRELS, each=30) == span_queries(PASSAGES, QRELS, each=30)
    with pytest.raises(BadInput, match="-1 runs of words"):
        WithSentences(Small(), spans=-1)


@given(st.text(max_size=300), st.integers(0, 4))
def test_any_text_gives_queries_of_the_asked_for_length_that_stand_in_it(text: str, each: int) -> None:
    queries, _ = sentence_queries({"p": Passage("p", text)}, {"q": {"p": 1}}, each=each)
    assert len(queries) <= each
    for query in queries.values():
        assert 4 <= len(query.text.split()) <= 20
        assert query.text in " ".join(text.split())
