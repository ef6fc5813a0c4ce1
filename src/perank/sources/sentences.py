"""More queries than anyone asked: sentences of a collection's own passages, each looking for the passage it is from.

A few thousand judged queries are soon known by heart; what an encoder thinks of any sentence is known too, so a
sentence makes as good a lesson in reading queries. Only passages judged relevant for the split's own queries are cut
up: what belongs to dev and test queries stays unread.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cached_property

from perank.errors import BadInput
from perank.records import Collection, Passage, Qrels, Query, Run

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(])")


class WithSentences:
    """A collection whose queries are its own and, behind them, at most `each` sentences of every judged passage."""

    def __init__(self, collection: Collection, *, each: int = 2, seed: int = 0) -> None:
        if each < 1:
            raise BadInput(f"{each} sentences a passage", remedy="use 1 or more", id="collection.each")
        self.collection, self.each, self.seed = collection, each, seed
        self.name = collection.name  # the same passages: their vectors are the same

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        return {**self.collection.queries, **self._sentences[0]}

    @property
    def passages(self) -> Mapping[str, Passage]:
        return self.collection.passages

    @cached_property
    def qrels(self) -> Qrels:
        return {**self.collection.qrels, **self._sentences[1]}

    @property
    def runs(self) -> Mapping[str, Run]:
        return self.collection.runs

    @cached_property
    def _sentences(self) -> tuple[dict[str, Query], Qrels]:
        return sentence_queries(self.collection.passages, self.collection.qrels, each=self.each, seed=self.seed)


def sentence_queries(
    passages: Mapping[str, Passage], qrels: Qrels, *, each: int, seed: int = 0, shortest: int = 4, longest: int = 20
) -> tuple[dict[str, Query], Qrels]:
    """At most `each` sentences of every judged passage as queries, and the judgements that go with them (grade 1).

    A sentence has `shortest` to `longest` words, most of its characters letters. Ids are
    `s:<passage id>#<number of the sentence>`. Deterministic.
    """
    judged = dict.fromkeys(id for grades in qrels.values() for id, grade in grades.items() if grade > 0)
    queries: dict[str, Query] = {}
    found: Qrels = {}
    for passage_id in judged:
        sentences = [" ".join(text.split()) for text in _END.split(passages[passage_id].text)]
        usable = [(i, text) for i, text in enumerate(sentences) if _reads_well(text, shortest, longest)]
        chosen = random.Random(f"{seed}:{passage_id}").sample(usable, min(each, len(usable)))
        for number, text in sorted(chosen):
            id = f"s:{passage_id}#{number}"
            queries[id] = Query(id, text)
            found[id] = {passage_id: 1}
    return queries, found


def _reads_well(text: str, shortest: int, longest: int) -> bool:
    words = text.split()
    letters = sum(character.isalpha() for character in text)
    return shortest <= len(words) <= longest and letters > 0.7 * sum(map(len, words))
