"""More queries than anyone asked: sentences of the collection's own passages, each looking for the passage it is from.

A few thousand judged queries are soon known by heart; what an encoder thinks of any sentence is known too, so a
sentence makes as good a lesson in reading queries. Only passages judged relevant for the split's own queries are cut
up: what belongs to dev and test queries stays unread.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from perank.records import Passage, Qrels, Query

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(])")


def sentence_queries(
    passages: Mapping[str, Passage], qrels: Qrels, *, each: int, seed: int = 0, shortest: int = 4, longest: int = 25
) -> tuple[dict[str, Query], Qrels]:
    """At most `each` sentences of every judged passage as queries, and the judgements that go with them (grade 1).

    A sentence has `shortest` to `longest` words. Ids are `s:<passage id>#<number of the sentence>`. Deterministic.
    """
    judged = dict.fromkeys(id for grades in qrels.values() for id, grade in grades.items() if grade > 0)
    queries: dict[str, Query] = {}
    found: Qrels = {}
    for passage_id in judged:
        sentences = list(enumerate(_END.split(passages[passage_id].text)))
        usable = [(i, text.strip()) for i, text in sentences if shortest <= len(text.split()) <= longest]
        chosen = random.Random(f"{seed}:{passage_id}").sample(usable, min(each, len(usable)))
        for number, text in chosen:
            id = f"s:{passage_id}#{number}"
            queries[id] = Query(id, text)
            found[id] = {passage_id: 1}
    return queries, found
