"""The rows a training run reads: from a file, or built once from the collection and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from perank.errors import BadInput
from perank.files import json_lines
from perank.paths import cache_dir
from perank.preparation.draw_rows import build_rows
from perank.preparation.fingerprint import file_digest, fingerprint, questions_digest, settings_of, store_digest
from perank.preparation.pools import LogUniform, Pool, TopK
from perank.preparation.teachers import EncoderTeacher, FusedTeacher, RunTeacher, Teacher
from perank.records import Collection, FirstStage, Run
from perank.retrieval.dense import Dense
from perank.retrieval.encoding import QueryVectors
from perank.retrieval.store import EmbeddingStore
from perank.sources.trec import read_run
from perank.training.rows import RankRow, read_rows, write_rows

Search = Callable[[], Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTeacher:
    """Who orders a row's candidates: "encoder", "run" (the one at `path`), or "fused" (`FusedTeacher`, `weight`).

    `judged_first` puts relevant passages before the teacher's opinion. Raises `BadInput` for another kind, and for a
    setting that a kind lacks or doesn't know.
    """

    kind: str = "encoder"
    path: str | Path | None = None
    weight: float | None = None
    judged_first: bool = True

    def __post_init__(self) -> None:
        needs = {"encoder": (False, False), "run": (True, False), "fused": (False, True)}
        if needs.get(self.kind) != (self.path is not None, self.weight is not None):
            raise BadInput(
                f"no teacher of kind {self.kind!r} with path {self.path!r} and weight {self.weight!r}",
                remedy="choose teacher=encoder, teacher=run with a path, or teacher=fused with a weight",
            )

    @property
    def identity(self) -> list[object]:
        """What rows depend on of it; for the first two kinds as it was before there were others."""
        known: list[object] = [file_digest(self.path) if self.path else ""]
        return known if self.weight is None and self.judged_first else [*known, self.weight, self.judged_first]


def training_rows(
    collection: Collection,
    first_stage: FirstStage,
    store: EmbeddingStore,
    query_vectors: QueryVectors,
    *,
    rows: int,
    rows_path: str | Path | None = None,
    candidates: int = 20,
    pools: Sequence[str] = ("first_stage",),
    pool_depth: int = 300,
    teacher: RowTeacher = RowTeacher(),
    seed: int = 0,
) -> list[RankRow]:
    """At most `rows` rows of `rows_path`, or as many drawn from `pools` ("first_stage", "dense", "log_uniform").

    Drawn rows are kept in the cache under a fingerprint of everything they depend on. Raises `BadInput` for rows that
    name a passage without a vector, for an unknown pool, for numbers too small, and where no rows can be drawn.
    """
    for setting, number, least in (("candidates", candidates, 2), ("pool_depth", pool_depth, 1)):
        if number < least:
            raise BadInput(f"{setting} is {number}", remedy=f"use {least} or more", id=f"data.{setting}")
    if not pools:
        raise BadInput("there are no pools to draw from", remedy="choose first_stage, dense or log_uniform", id="pools")
    if rows_path is not None:
        return _known(read_rows(rows_path)[:rows], store, Path(rows_path))
    settings = [rows, candidates, list(pools), pool_depth, seed, questions_digest(collection), store_digest(store)]
    settings += [settings_of(first_stage), *teacher.identity]
    key = fingerprint(*settings)
    path = cache_dir() / "rows" / f"{collection.name}-{key}.jsonl"
    if not path.is_file():
        retrieved = cache(partial(first_stage.search, collection, depth=candidates))
        dense = Dense(query_vectors.encoder, store)
        drawn = [_pool(name, collection, retrieved, dense, candidates, pool_depth) for name in pools]
        orders = _orders(teacher, EncoderTeacher(query_vectors, store), retrieved)
        judged = collection.qrels if teacher.judged_first else {}
        made = list(
            build_rows(collection.queries, collection.qrels, drawn, orders, count=rows, seed=seed, judged=judged)
        )
        if not made:
            problem = f"no rows can be drawn from the {len(collection.queries)} queries by {', '.join(pools)}"
            raise BadInput(problem, remedy="check that the queries belong to the passages", id=collection.name)
        write_rows(path, made)
    return read_rows(path)


def _known(rows: list[RankRow], store: EmbeddingStore, path: Path) -> list[RankRow]:
    """The rows, if there are some and the store has a vector for every passage in them."""
    if not rows:
        raise BadInput("there are no rows", remedy="make them with perank.prepare", path=path)
    ids = list({id for row in rows for id in row.passage_ids})
    for start in range(0, len(ids), 65_536):
        found = store.rows(ids[start : start + 65_536]) >= 0
        if not found.all():
            unknown = ids[start + int(found.argmin())]
            line = next(number for number, row in json_lines(path) if unknown in row["passages"])
            remedy = "name the collection that the rows were made from"
            raise BadInput("the collection has no such passage", remedy=remedy, path=path, line=line, id=unknown)
    return rows


def _orders(teacher: RowTeacher, encoder: EncoderTeacher, retrieved: Search) -> Teacher:
    if teacher.path is not None:
        return RunTeacher(read_run(teacher.path))
    return encoder if teacher.weight is None else FusedTeacher(encoder, retrieved(), teacher.weight)


def _pool(name: str, collection: Collection, retrieved: Search, dense: Dense, n: int, depth: int) -> Pool:
    if name == "first_stage":
        return TopK(retrieved(), n)
    if name not in ("dense", "log_uniform"):
        raise BadInput(f"unknown pool {name!r}", remedy="choose among first_stage, dense and log_uniform")
    if name == "dense":
        return TopK(dense.search(collection, depth=n), n)
    return LogUniform(dense.search(collection, depth=depth), n)
