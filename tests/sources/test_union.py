"""Several collections as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from perank.errors import BadInput
from perank.records import Passage, Qrels, Query, Run
from perank.sources.union import Union


@dataclass
class Small:
    name: str
    queries: Mapping[str, Query]
    passages: Mapping[str, Passage]
    qrels: Qrels
    runs: Mapping[str, Run] = field(default_factory=dict)


def small(word: str) -> Small:
    passages = {"d1": Passage("d1", f"{word} one", "T"), "d2": Passage("d2", f"{word} two")}
    return Small(word, {"q": Query("q", f"which {word}")}, passages, {"q": {"d2": 2}})


def test_ids_name_their_collection_and_the_order_is_kept() -> None:
    union = Union({"b": small("bread"), "a": small("apple"), "none": None})
    assert list(union.queries) == ["b:q", "a:q"]
    assert list(union.passages) == ["b:d1", "b:d2", "a:d1", "a:d2"]
    assert union.passages["b:d1"] == Passage("b:d1", "bread one", "T")
    assert union.queries["a:q"] == Query("a:q", "which apple")
    assert union.qrels == {"b:q": {"b:d2": 2}, "a:q": {"a:d2": 2}}


def test_a_union_of_nothing_and_names_with_a_colon_are_refused() -> None:
    with pytest.raises(BadInput, match="no collections"):
        Union({"a": None})
    with pytest.raises(BadInput, match="colon"):
        Union({"a:b": small("apple")})
