"""Sentences of judged passages as queries: their own passage is the answer, and nothing unjudged is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perank.preparation.sentences import sentence_queries
from perank.records import Passage

PASSAGES = {
    "a": Passage("a", "Too short. This sentence has enough words in it. So does this one, with a comma."),
    "b": Passage("b", "Nobody asked for this passage of the corpus. It stays unread by everyone here."),
    "c": Passage("c", "Word " * 40 + "in one endless sentence."),
}
QRELS = {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}}


def test_sentences_of_relevant_passages_become_queries_whose_answer_is_the_passage() -> None:
    queries, qrels = sentence_queries(PASSAGES, QRELS, each=5)
    assert {query.text for query in queries.values()} == {
        "This sentence has enough words in it.",
        "So does this one, with a comma.",
    }
    assert all(grades == {"a": 1} for grades in qrels.values())
    assert queries.keys() == qrels.keys()


def test_no_more_sentences_are_taken_than_asked_for_and_the_same_ones_every_time() -> None:
    once, again = (sentence_queries(PASSAGES, QRELS, each=1, seed=3)[0] for _ in range(2))
    assert once == again
    assert len(once) == 1


@given(st.text(max_size=300), st.integers(0, 4))
def test_any_text_gives_queries_of_the_asked_for_length_that_stand_in_it(text: str, each: int) -> None:
    queries, _ = sentence_queries({"p": Passage("p", text)}, {"q": {"p": 1}}, each=each)
    assert len(queries) <= each
    for query in queries.values():
        assert 4 <= len(query.text.split()) <= 25
        assert query.text in text
