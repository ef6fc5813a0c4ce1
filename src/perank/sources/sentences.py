"""Synthetic queries: sentences and word spans of a collection's passages, each relevant to its own passage.

A model soon overfits to a few thousand judged queries; the encoder gives a teacher signal for any sentence or span.
Only passages judged relevant for the split's own queries are used, so those of dev and test queries stay unseen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cached_property

from perank.errors import BadInput
from perank.records import Collection, Passage, Qrels, Query, Run

SHORTEST, LONGEST = 4, 20  # words of a query
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(])")


class WithSentences:
    """A collection with additional queries: at most `each` sentences, then `spans` word spans, per judged passage."""

    def __init__(self, collection: Collection, *, each: int = 2, spans: int = 0, seed: int = 0) -> None:
        if each < 1:
            raise BadInput(f"{each} sentences a passage", remedy="use 1 or more", id="collection.each")
        if spans < 0:
            raise BadInput(f"{spans} runs of words a passage", remedy="use 0 or more", id="collection.spans")
        self.collection, self.each, self.spans, self.seed = collection, each, spans, seed
        self.name = collection.name  # the same passages, so their vectors can be shared

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        return {**self.collection.queries, **self._sentences[0], **self._spans[0]}

    @property
    def passages(self) -> Mapping[str, Passage]:
        return self.collection.passages

    @cached_property
    def qrels(self) -> Qrels:
        return {**self.collection.qrels, **self._sentences[1], **self._spans[1]}

    @property
    def runs(self) -> Mapping[str, Run]:
        return self.collection.runs

    @cached_property
    def _sentences(self) -> tuple[dict[str, Query], Qrels]:
        return sentence_queries(self.collection.passages, self.collection.qrels, each=self.each, seed=self.seed)

    @cached_property
    def _spans(self) -> tuple[dict[str, Query], Qrels]:
        return span_queries(self.collection.passages, self.collection.qrels, each=self.spans, seed=self.seed)


def sentence_queries(
    passages: Mapping[str, Passage], qrels: Qrels, *, each: int, seed: int = 0
) -> tuple[dict[str, Query], Qrels]:
    """Return at most `each` sentences per judged passage as queries, and their judgements (grade 1).

    Ids are `s:<passage id>#<number of the sentence>`. Deterministic.
    """
    queries: dict[str, Query] = {}
    found: Qrels = {}
    for passage_id in _judged(qrels):
        sentences = [" ".join(text.split()) for text in _END.split(passages[passage_id].text)]
        usable = [(i, text) for i, text in enumerate(sentences) if _reads_well(text)]
        chosen = random.Random(f"{seed}:{passage_id}").sample(usable, min(each, len(usable)))
        for number, text in sorted(chosen):
            id = f"s:{passage_id}#{number}"
            queries[id], found[id] = Query(id, text), {passage_id: 1}
    return queries, found


def span_queries(
    passages: Mapping[str, Passage], qrels: Qrels, *, each: int, seed: int = 0
) -> tuple[dict[str, Query], Qrels]:
    """Return at most `each` word spans per judged passage as queries, and their judgements.

    Position and length are drawn uniformly. Ids are `w:<passage id>#<first word>+<words>`. Deterministic.
    """
    queries: dict[str, Query] = {}
    found: Qrels = {}
    for passage_id in _judged(qrels):
        dice, words = random.Random(f"{seed}:{passage_id}:spans"), passages[passage_id].text.split()
        for _ in range(each if len(words) >= SHORTEST else 0):
            length = dice.randint(SHORTEST, min(LONGEST, len(words)))
            first = dice.randint(0, len(words) - length)
            text, id = " ".join(words[first : first + length]), f"w:{passage_id}#{first}+{length}"
            if _reads_well(text):
                queries[id], found[id] = Query(id, text), {passage_id: 1}
    return queries, found


def _judged(qrels: Qrels) -> dict[str, None]:
    """Passages that are relevant for any query, in the judgements' order."""
    return dict.fromkeys(id for grades in qrels.values() for id, grade in grades.items() if grade > 0)


def _reads_well(text: str) -> bool:
    """Whether the text has a query's number of words and consists mostly of letters."""
    words = text.split()
    letters = sum(character.isalpha() for character in text)
    return SHORTEST <= len(words) <= LONGEST and letters > 0.7 * sum(map(len, words))
