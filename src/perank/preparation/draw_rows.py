"""Rows from a collection's queries: for every query and pass, draw candidates from a pool and order them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from perank.preparation.pools import Pool
from perank.preparation.teachers import Teacher, teacher_order
from perank.records import Qrels, Query
from perank.training.rows import RankRow


def build_rows(
    queries: Mapping[str, Query],
    qrels: Qrels,
    pools: Sequence[Pool],
    teacher: Teacher,
    *,
    count: int,
    seed: int = 0,
    minimum: int = 2,
    judged: Qrels | None = None,
) -> Iterator[RankRow]:
    """`count` rows: every pass goes through all queries in an order of its own, and pools take turns.

    Queries for which a pool yields fewer than `minimum` passages are passed over in that pass. Deterministic in `seed`:
    row i doesn't depend on `count`. `judged` (None: all of `qrels`) goes before the teacher's opinion.
    """
    first = qrels if judged is None else judged
    made, turn = 0, 0
    while made < count:
        order = list(queries)
        random.Random(f"{seed}:{turn}").shuffle(order)
        before = made
        for place, query_id in enumerate(order):
            if made == count:
                return
            rng = random.Random(f"{seed}:{turn}:{query_id}")
            positives = [id for id, grade in qrels.get(query_id, {}).items() if grade > 0]
            ids = pools[(place + turn) % len(pools)].draw(query_id, positives, rng)
            if len(ids) >= minimum:
                query = queries[query_id]
                yield RankRow(query, tuple(ids), teacher_order(query, ids, first, teacher))
                made += 1
        if made == before:
            return
        turn += 1
