"""A corpus cut to a number of passages: judged ones stay, the choice depends on ids alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from perank.errors import BadInput
from perank.records import Passage, Qrels, Query, Run
from perank.sources.limited import Limited


class Corpus:
    """50 passages, p0 and p49 judged; counts how often it is read whole."""

    name = "corpus"

    def __init__(self) -> None:
        self.reads = 0
        corpus = self

        class Passages(dict[str, Passage]):
            def __iter__(self) -> Iterator[str]:
                corpus.reads += 1
                return super().__iter__()

        self.passages = Passages((f"p{i}", Passage(f"p{i}", f"text {i}")) for i in range(50))
        self.queries = {"q1": Query("q1", "first"), "q2": Query("q2", "second")}
        self.qrels: Qrels = {"q1": {"p0": 1, "gone": 1}, "q2": {"p49": 0}}
        self.runs: dict[str, Run] = {"bm25": {"q1": {f"p{i}": 50.0 - i for i in range(50)}}}


def test_judged_passages_stay_and_the_rest_is_chosen_by_hash() -> None:
    ten, twenty = (list(Limited(Corpus(), limit=limit).passages) for limit in (10, 20))
    assert (len(ten), len(twenty)) == (10, 20)
    assert {"p0", "p49"} <= set(ten) <= set(twenty)
    assert ten == sorted(ten, key=lambda id: int(id[1:]))  # the corpus' order
    assert ten != [f"p{i}" for i in (*range(9), 49)]


def test_lookups_iteration_and_runs_know_the_chosen_passages_alone() -> None:
    limited = Limited(Corpus(), limit=10)
    ids = list(limited.passages)
    assert [passage.id for passage in limited.passages.values()] == ids
    assert dict(limited.passages.items()) == {id: Corpus().passages[id] for id in ids}
    dropped = next(id for id in Corpus().passages if id not in limited.passages)
    with pytest.raises(KeyError):
        limited.passages[dropped]
    several: Any = limited.passages
    assert several.get_many([*ids[:2], dropped]) == {id: Corpus().passages[id] for id in ids[:2]}
    assert limited.runs["bm25"] == {"q1": {id: 50.0 - int(id[1:]) for id in ids}}
    assert (limited.queries, limited.qrels) == (Corpus().queries, Corpus().qrels)
    assert limited.name == "corpus-10"


def test_the_choice_is_made_once_and_kept(own_cache: Any) -> None:
    first = list(Limited(Corpus(), limit=10).passages)
    corpus = Corpus()
    assert set(Limited(corpus, limit=10).passages) == set(first)
    assert corpus.reads == 0  # `items` streams; the ids came from the cache


def test_a_corpus_within_the_limit_is_whole() -> None:
    assert list(Limited(Corpus(), limit=50).passages) == list(Corpus().passages)


def test_fewer_than_are_judged_are_refused() -> None:
    with pytest.raises(BadInput, match="2 passages of corpus are judged, the limit is 1"):
        assert Limited(Corpus(), limit=1).passages
    with pytest.raises(BadInput, match="a limit of 0"):
        Limited(Corpus(), limit=0)
