"""The rows a training run reads: from a file, or built once from the collection and kept in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perank.data.rows import RankRow, read_rows, write_rows
from perank.errors import BadInput
from perank.files import json_lines
from perank.paths import cache_dir
from perank.preparation.build import build_rows
from perank.preparation.fingerprint import file_digest, fingerprint, questions_digest, settings_of, store_digest
from perank.preparation.pools import LogUniform, Pool, TopK
from perank.preparation.teachers import EncoderTeacher, RunTeacher, Teacher
from perank.records import Collection
from perank.retrieval.dense import Dense
from perank.retrieval.first_stage import FirstStage
from perank.retrieval.query_vectors import QueryVectors
from perank.retrieval.store import EmbeddingStore
from perank.sources.trec import read_run


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
    teacher_run: str | Path | None = None,
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
    settings += [settings_of(first_stage), file_digest(teacher_run) if teacher_run else ""]
    key = fingerprint(*settings)
    path = cache_dir() / "rows" / f"{collection.name}-{key}.jsonl"
    if not path.is_file():
        teacher: Teacher = RunTeacher(read_run(teacher_run)) if teacher_run else EncoderTeacher(query_vectors, store)
        dense = Dense(query_vectors.encoder, store)
        drawn = [_pool(name, collection, first_stage, dense, candidates, pool_depth) for name in pools]
        made = list(build_rows(collection.queries, collection.qrels, drawn, teacher, count=rows, seed=seed))
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


def _pool(name: str, collection: Collection, first_stage: FirstStage, dense: Dense, n: int, depth: int) -> Pool:
    if name == "first_stage":
        return TopK(first_stage.search(collection, depth=n), n)
    if name not in ("dense", "log_uniform"):
        raise BadInput(f"unknown pool {name!r}", remedy="choose among first_stage, dense and log_uniform")
    if name == "dense":
        return TopK(dense.search(collection, depth=n), n)
    return LogUniform(dense.search(collection, depth=depth), n)
