"""The rows a training run reads: from a file, or built once from the collection and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from perank.data.rows import RankRow, read_rows, write_rows
from perank.errors import BadInput
from perank.paths import cache_dir
from perank.preparation.build import build_rows
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

    Drawn rows are kept in the cache under a fingerprint of everything they depend on.
    """
    if rows_path is not None:
        return read_rows(rows_path)[:rows]
    settings = [rows, candidates, list(pools), pool_depth, str(teacher_run), seed, _digest(collection)]
    key = hashlib.sha256(json.dumps([*settings, _settings(first_stage), dict(store.identity)]).encode()).hexdigest()[
        :16
    ]
    path = cache_dir() / "rows" / f"{collection.name}-{key}.jsonl"
    if not path.is_file():
        teacher: Teacher = RunTeacher(read_run(teacher_run)) if teacher_run else EncoderTeacher(query_vectors, store)
        dense = Dense(query_vectors.encoder, store)
        drawn = [_pool(name, collection, first_stage, dense, candidates, pool_depth) for name in pools]
        write_rows(path, build_rows(collection.queries, collection.qrels, drawn, teacher, count=rows, seed=seed))
    return read_rows(path)


def _pool(name: str, collection: Collection, first_stage: FirstStage, dense: Dense, n: int, depth: int) -> Pool:
    if name == "first_stage":
        return TopK(first_stage.search(collection, depth=n), n)
    if name not in ("dense", "log_uniform"):
        raise BadInput(f"unknown pool {name!r}", remedy="choose among first_stage, dense and log_uniform")
    if name == "dense":
        return TopK(dense.search(collection, depth=n), n)
    return LogUniform(dense.search(collection, depth=depth), n)


def _settings(thing: object) -> dict[str, str]:
    """A retriever's plain settings, for a fingerprint."""
    plain = (str, int, float, bool)
    return {key: str(value) for key, value in sorted(vars(thing).items()) if isinstance(value, plain)}


def _digest(collection: Collection) -> str:
    parts = [f"{query.id}\t{query.text}" for query in collection.queries.values()]
    return hashlib.sha256("\n".join([collection.name, *parts]).encode()).hexdigest()
