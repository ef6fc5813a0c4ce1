"""The rows that a training run reads: from a file, or drawn once from the collection and cached.

Every pass visits all queries in a new random order, and pools alternate. Rows are deterministic in the seed, and row i
doesn't depend on the number of rows.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from perank.errors import BadInput, check_least
from perank.files import cache_dir, file_lock, json_lines
from perank.preparation.fingerprint import fingerprint, questions_digest, settings_of, store_digest
from perank.preparation.pools import LogUniform, Pool, TopK
from perank.preparation.teachers import Teacher, teacher_orders
from perank.records import Candidates, Collection, FirstStage, Qrels, Query, Run, rank_order
from perank.retrieval.dense import Dense
from perank.retrieval.encoding import QueryVectors
from perank.retrieval.store import EmbeddingStore
from perank.sources import relevant_passages
from perank.training.rows import RankRow, passages_of, read_rows, write_rows

_POOLS = "first_stage, dense, log_uniform and first_stage_deep"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """At most `rows` rows of the file `rows_path`, or drawn ones with `candidates` per row, from `pools` in turn.

    Pools: "first_stage" and "dense" take the top, "log_uniform" draws from the encoder's top `pool_depth`,
    "first_stage_deep" from the first stage's. `first`: rows carry their ranks in the first stage's top `pool_depth` and
    its first so many passages (None: they don't). Raises `BadInput` without pools and for numbers that are too small.
    """

    rows: int
    rows_path: str | Path | None = None
    candidates: int = 20
    pools: Sequence[str] = ("first_stage",)
    pool_depth: int = 300
    seed: int = 0
    first: int | None = None

    def __post_init__(self) -> None:
        check_least("data", 1, rows=self.rows, pool_depth=self.pool_depth)
        check_least("data", 2, candidates=self.candidates)
        if not self.pools:
            raise BadInput("there are no pools to draw from", remedy=f"choose among {_POOLS}", id="data.pools")

    @property
    def depth(self) -> int:
        """How many of the first stage's passages per query are needed."""
        deep = self.first is not None or "first_stage_deep" in self.pools
        return max(self.candidates, self.pool_depth) if deep else self.candidates


@dataclass(frozen=True, kw_only=True)
class RowSources:
    """Inputs of rows; the store, and the first stage's run of `depth` passages per query, are loaded on first use."""

    collection: Collection
    first_stage: FirstStage
    query_vectors: QueryVectors
    open_store: Callable[[], EmbeddingStore]
    depth: int

    @cached_property
    def store(self) -> EmbeddingStore:
        """Vectors of the passages."""
        return self.open_store()

    @cached_property
    def run(self) -> Run:
        """The first stage's run over all queries."""
        return self.first_stage.search(self.collection, depth=self.depth)


def training_rows(sources: RowSources, teacher: Teacher, settings: RowSettings) -> list[RankRow]:
    """Return the rows of a training run. Drawn rows are cached under a fingerprint of all that they depend on.

    Raises `BadInput` for a passage without vector, and if no rows can be drawn.
    """
    if settings.rows_path is not None:
        return _known(read_rows(settings.rows_path)[: settings.rows], sources.store, Path(settings.rows_path))
    path = cache_dir() / "rows" / f"{sources.collection.name}-{_fingerprint(sources, teacher, settings)}.jsonl"
    with file_lock(path.with_name(f".{path.name}.lock")):  # the other devices need the same rows
        if not path.is_file():
            write_rows(path, _drawn(sources, teacher, settings))
    return read_rows(path)


def _fingerprint(sources: RowSources, teacher: Teacher, settings: RowSettings) -> str:
    asked = [settings.rows, settings.candidates, list(settings.pools), settings.pool_depth, settings.seed]
    asked += [] if settings.first is None else [f"first {settings.first}"]
    digests = [questions_digest(sources.collection), store_digest(sources.store), settings_of(sources.first_stage)]
    file, own = teacher.identity
    plain = (
        own is None and teacher.judged_first is not False
    )  # keeps the fingerprints from before other teachers existed
    return fingerprint(*asked, *digests, file, *([] if plain else [own, teacher.judged_first is not False]))


def _drawn(sources: RowSources, teacher: Teacher, settings: RowSettings) -> list[RankRow]:
    collection = sources.collection
    pools = [_pool(name, sources, settings) for name in settings.pools]
    judged = {} if teacher.judged_first is False else collection.qrels
    drawn = islice(draws(collection.queries, _with_text(collection), pools, settings.seed), settings.rows)
    found = (Candidates(query, passages_of(collection.passages, ids)) for query, ids in drawn)
    rows = [ordered_row(*ordered) for ordered in teacher_orders(teacher, found, sources, judged)]
    if settings.first is not None:
        rows = [placed_row(row, rank_order(sources.run.get(row.query.id, {})), settings.first) for row in rows]
    if not rows:
        problem = f"no rows can be drawn from the {len(collection.queries)} queries by {', '.join(settings.pools)}"
        raise BadInput(problem, remedy="check that the queries belong to the passages", id=collection.name)
    return rows


def _with_text(collection: Collection) -> Qrels:
    """Return the relevant passages that are in the corpus, and warn of others. Raises `BadInput` if none is."""
    unique, missing = relevant_passages(collection, collection.qrels)
    if missing and len(missing) == len(unique):
        remedy = "use judgements and passages of the same version of the collection"
        problem = f"none of the {len(missing)} relevant passages is in the corpus"
        raise BadInput(problem, remedy=remedy, path=collection.name, id=missing[0])
    if missing:
        log.warning("%s: %d of %d relevant passages are not in the corpus", collection.name, len(missing), len(unique))
    lacking, judged = set(missing), collection.qrels
    return {
        query: {id: 1 for id, grade in judged[query].items() if grade > 0 and id not in lacking} for query in judged
    }


def ordered_row(candidates: Candidates, order: tuple[int, ...]) -> RankRow:
    """Return a row of candidates in their own order, with the teacher's order."""
    return RankRow(candidates.query, tuple(passage.id for passage in candidates.passages), order)


def placed_row(row: RankRow, ranking: Sequence[str], first: int) -> RankRow:
    """Return the row with its ranks in a first-stage ranking, and that ranking's `first` best passages.

    Passages outside the ranking rank after its last. Without any ranking the row's own passages are used.
    """
    place = {id: rank for rank, id in enumerate(ranking)}
    ranks = tuple(place.get(id, len(place)) for id in row.passage_ids)
    return replace(row, ranks=ranks, first=tuple(ranking[:first]))


def draws(
    queries: Mapping[str, Query], qrels: Qrels, pools: Sequence[Pool], seed: int, minimum: int = 2
) -> Iterator[tuple[Query, list[str]]]:
    """Yield queries with candidates endlessly, or until a pass finds none.

    A pass skips queries for which its pool yields fewer than `minimum` passages.
    """
    turn, found = 0, True
    while found:
        order, found = list(queries), False
        random.Random(f"{seed}:{turn}").shuffle(order)
        for place, query_id in enumerate(order):
            rng = random.Random(f"{seed}:{turn}:{query_id}")
            positives = [id for id, grade in qrels.get(query_id, {}).items() if grade > 0]
            ids = pools[(place + turn) % len(pools)].draw(query_id, positives, rng)
            if len(ids) >= minimum:
                found = True
                yield queries[query_id], ids
        turn += 1


def _pool(name: str, sources: RowSources, settings: RowSettings) -> Pool:
    if name == "first_stage":
        return TopK(sources.run, settings.candidates)
    if name == "first_stage_deep":
        return LogUniform(sources.run, settings.candidates)
    if name not in ("dense", "log_uniform"):
        raise BadInput(f"unknown pool {name!r}", remedy=f"choose among {_POOLS}")
    kind, depth = (TopK, settings.candidates) if name == "dense" else (LogUniform, settings.pool_depth)
    dense = Dense(sources.query_vectors.encoder, sources.store)
    return kind(dense.search(sources.collection, depth=depth), settings.candidates)


def _known(rows: list[RankRow], store: EmbeddingStore, path: Path) -> list[RankRow]:
    """Check that there are rows and that the store has a vector for every passage, and return the rows."""
    if not rows:
        raise BadInput("there are no rows", remedy="create them with perank.prepare", path=path)
    ids = list({id for row in rows for id in row.passage_ids})
    for start in range(0, len(ids), 65_536):
        found = store.rows(ids[start : start + 65_536]) >= 0
        if not found.all():
            unknown = ids[start + int(found.argmin())]
            line = next(number for number, row in json_lines(path) if unknown in row["passages"])
            remedy = "use the collection that the rows were created from"
            raise BadInput("the collection has no such passage", remedy=remedy, path=path, line=line, id=unknown)
    return rows
