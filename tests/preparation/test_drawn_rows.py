"""Rows from a file are checked at once; rows that are drawn are kept for as long as nothing they depend on changes."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from perank.errors import BadInput
from perank.files import sha256
from perank.preparation.drawn_rows import RowSettings, RowSources, draws, training_rows
from perank.preparation.teachers import EncoderTeacher, FusedTeacher, RankerTeacher, RunTeacher, Teacher
from perank.records import Candidates, Passage, Qrels, Query, Ranking
from perank.retrieval.bm25 import Bm25
from perank.retrieval.dense import Dense
from perank.retrieval.encoding import QueryVectors, cached_store
from perank.training.rows import RankRow, write_rows
from preparation.test_ranking_set import Backwards
from support.fake_encoders import HashEncoder

TEXTS = {f"p{i}": f"word{i} word{i + 1} common" for i in range(12)}


@dataclass(frozen=True)
class Small:
    """A collection of the shape training wants."""

    name: str = "small"
    queries: dict[str, Query] = field(
        default_factory=lambda: {f"q{i}": Query(f"q{i}", f"word{i} common") for i in range(4)}
    )
    passages: dict[str, Passage] = field(default_factory=lambda: {id: Passage(id, text) for id, text in TEXTS.items()})
    qrels: Qrels = field(default_factory=lambda: {f"q{i}": {f"p{i}": 1} for i in range(4)})
    runs: dict[str, Any] = field(default_factory=dict)


ENCODER: Teacher = EncoderTeacher()


def rows(
    collection: Small | None = None, first_stage: Any = None, teacher: Teacher = ENCODER, **options: Any
) -> list[RankRow]:
    collection, encoder = collection or Small(), HashEncoder(4)
    settings = RowSettings(**{"rows": 10, "candidates": 4, "pool_depth": 8, **options})
    sources = RowSources(
        collection=collection,
        first_stage=first_stage or Bm25(),
        query_vectors=QueryVectors(collection.queries, encoder),
        open_store=lambda: cached_store(collection.name, collection.passages, encoder),
        depth=settings.candidates,
    )
    return training_rows(sources, teacher, settings)


def cached(own_cache: Path) -> set[str]:
    return {path.name for path in (own_cache / "rows").glob("*.jsonl")}


def test_drawn_rows_are_kept_and_read_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rows(pools=["first_stage", "log_uniform", "dense"])
    assert len(first) == 10
    monkeypatch.setattr(Bm25, "search", lambda *_, **__: pytest.fail("drawn again"))
    assert rows(pools=["first_stage", "log_uniform", "dense"]) == first
    assert len(cached(own_cache)) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"rows": 9},
        {"candidates": 3},
        {"pools": ["dense"]},
        {"pool_depth": 7},
        {"first_stage": Bm25(k1=1.2)},
        {"first_stage": Bm25(stemmer="none")},
        {"collection": replace(Small(), qrels={"q0": {"p5": 1}})},
        {"collection": replace(Small(), queries={"q0": Query("q0", "word1 common")})},
        {
            "collection": replace(
                Small(), passages={id: Passage(id, f"{text} more") for id, text in list(TEXTS.items())}
            )
        },
        {"collection": replace(Small(), name="renamed")},
        {"teacher": EncoderTeacher(judged_first=False)},
        {"teacher": FusedTeacher(weight=0.05)},
        {"teacher": RankerTeacher(ranker=Backwards, made_of={"name": "backwards"})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_rows_depend_on_has_rows_of_its_own(own_cache: Path, changed: dict[str, Any]) -> None:
    rows()
    rows(**changed)
    assert len(cached(own_cache)) == 2


def test_a_teachers_run_counts_by_its_content_not_by_its_name(own_cache: Path, tmp_path: Path) -> None:
    run, orders = tmp_path / "teacher.trec", []
    for sign in (1, -1):
        lines = [(q, p, sign * float(p[1:])) for q in Small().queries for p in TEXTS]
        ranked = sorted(lines, key=lambda line: (line[0], -line[2]))
        run.write_text("".join(f"{q} Q0 {p} {i} {score} t\n" for i, (q, p, score) in enumerate(ranked, start=1)))
        orders.append([row.order for row in rows(teacher=RunTeacher(path=run))])
    assert orders[0] != orders[1]
    with pytest.raises(BadInput, match=r"teacher\.path"):
        rows(teacher=RunTeacher(path=tmp_path / "none.trec"))


def test_a_rows_file_is_read_up_to_the_number_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    made = rows()
    write_rows(path, made)
    assert rows(rows_path=path, rows=3) == made[:3]


def test_a_rows_file_of_another_collection_is_refused_by_line_and_id(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [RankRow(Query("q", "text"), ("p1", "p2"), (0, 1)), RankRow(Query("r", "x"), ("p1", "z"), (1, 0))])
    with pytest.raises(BadInput, match="no such passage") as caught:
        rows(rows_path=path)
    assert (caught.value.path, caught.value.line, caught.value.id) == (path, 2, "z")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pools": []}, "no pools"),
        ({"pools": ["best"]}, "unknown pool 'best'"),
        ({"rows": 0}, "rows is 0"),
        ({"candidates": 1}, "candidates is 1"),
        ({"pool_depth": 0}, "pool_depth is 0"),
        ({"collection": replace(Small(), queries={})}, "no rows"),
    ],
    ids=str,
)
def test_what_gives_no_rows_is_refused_and_leaves_no_file(own_cache: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        rows(**options)
    assert cached(own_cache) == set()


def test_rows_hold_ids_and_no_texts(own_cache: Path) -> None:
    rows()
    line = json.loads(next((own_cache / "rows").glob("*.jsonl")).read_text().splitlines()[0])
    assert line.keys() == {"query_id", "query", "passages", "order"}
    assert all(id in TEXTS for id in line["passages"])


def test_what_is_judged_goes_first_unless_the_teacher_is_asked_alone() -> None:
    qrels = {id: {"p5": 1} for id in Small().queries}
    judged = rows(replace(Small(), qrels=qrels), pools=["log_uniform"])
    alone = rows(replace(Small(), qrels=qrels), pools=["log_uniform"], teacher=EncoderTeacher(judged_first=False))
    assert [row.passage_ids for row in judged] == [row.passage_ids for row in alone]
    assert all(row.passage_ids[row.order[0]] == "p5" for row in judged)
    assert any(row.passage_ids[row.order[0]] != "p5" for row in alone)


def test_a_ranker_reads_the_candidates_texts_and_orders_rows_that_are_kept(own_cache: Path) -> None:
    asked: list[Candidates] = []

    class Reading(Backwards):
        def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
            asked.extend(batch)
            return super().rank_batch(batch)

    found = rows(teacher=RankerTeacher(ranker=Reading, judged_first=False), pools=["dense"])
    assert [row.order for row in found] == [(3, 2, 1, 0)] * 10
    assert all(passage.text == TEXTS[passage.id] for candidates in asked for passage in candidates.passages)
    unloadable = RankerTeacher(ranker=lambda: pytest.fail("loaded again"), judged_first=False)
    assert rows(teacher=unloadable, pools=["dense"]) == found


def test_a_judged_passage_that_the_collection_lacks_is_refused_by_id() -> None:
    with pytest.raises(BadInput, match="none of the 1 relevant passages is in the corpus") as caught:
        rows(replace(Small(), qrels={"q0": {"lost": 1}}), pools=["log_uniform"])
    assert caught.value.id == "lost"


ALL = ["log_uniform", "first_stage", "dense"]
JUDGED: Qrels = {f"q{i}": {f"p{i}": 1, f"p{i + 4}": 2, f"p{i + 1}": 0} for i in range(4)}

# Digest in the file's name (of fused teachers: since their sums are in fp64), and beginning of its SHA-256, as written
# before the teachers were one group.
BEFORE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "encoder": ("ead75a75e73373a9", "42447c424a37e636", {"pools": ["first_stage"]}),
    "encoder, all pools": ("f78a67339c1c6b84", "b3b8166ce686298d", {}),
    "encoder, seed 1": ("23bec0f02e0c3b7a", "1ee9640b94a60202", {"seed": 1}),
    "encoder alone": ("f85337673699622a", "5100159ae4781fdc", {"teacher": EncoderTeacher(judged_first=False)}),
    "run": ("39ec3a88408cd8da", "c0531af5d7dad43e", {"teacher": RunTeacher(path="teacher.trec")}),
    "run alone": (
        "22232f69bb413195",
        "ca09b419901e490f",
        {"teacher": RunTeacher(path="teacher.trec", judged_first=False)},
    ),
    "fused": ("501713ef4d95559e", "b7cbfa5b23349785", {"teacher": FusedTeacher()}),
    "fused, judged first": (
        "d826fda1a0bf0c67",
        "5f6c8ec62a61512d",
        {"teacher": FusedTeacher(weight=0.3, judged_first=True)},
    ),
    "dense first stage": (
        "2cffd8ae23a914a2",
        "6e3d264f3f11e3fd",
        {"teacher": FusedTeacher(weight=0.3), "first_stage": Dense(HashEncoder(4))},
    ),
}


@pytest.mark.parametrize("case", BEFORE)
def test_rows_are_to_the_byte_those_that_earlier_versions_drew_and_cached(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ranked = [(q, rank, f"p{(5 * rank - 5 + int(q[1:])) % 12}") for q in Small().queries for rank in range(1, 13)]
    lines = [f"{q} Q0 {id} {rank} {float(20 - rank // 2)} t\n" for q, rank, id in ranked]
    Path("teacher.trec").write_text("".join(lines))
    name, digest, settings = BEFORE[case]
    rows(replace(Small(), qrels=JUDGED), **{"rows": 17, "pools": ALL, **settings})
    (path,) = (own_cache / "rows").glob("*.jsonl")
    assert (path.name, sha256(path)[:16]) == (f"small-{name}.jsonl", digest)


# What is drawn for a row


class Marked:
    """Candidates that name their pool; the positives it was told of are kept."""

    def __init__(self, name: str, size: int = 3, missing: Sequence[str] = ()) -> None:
        self.name, self.size, self.missing = name, size, missing
        self.positives: dict[str, list[str]] = {}

    def draw(self, query_id: str, positives: Sequence[str], rng: random.Random) -> list[str]:
        self.positives[query_id] = list(positives)
        if query_id in self.missing:
            return [f"{self.name}0"]
        return rng.sample([f"{self.name}{i}" for i in range(9)], self.size)


QUERIES = {f"q{i}": Query(f"q{i}", f"query {i}") for i in range(6)}
QRELS: Qrels = {f"q{i}": {f"p{i}": 1} for i in range(6)}


def drawn(count: int, pools: Sequence[Marked], seed: int = 0, qrels: Qrels = QRELS) -> list[tuple[str, list[str]]]:
    return [(query.id, ids) for query, ids in islice(draws(QUERIES, qrels, pools, seed), count)]


def test_every_pass_asks_every_query_once_and_in_an_order_of_its_own() -> None:
    asked = [query for query, _ in drawn(18, [Marked("a")])]
    passes = [asked[start : start + 6] for start in (0, 6, 12)]
    assert all(sorted(one) == sorted(QUERIES) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_pools_take_turns_and_a_query_meets_them_all() -> None:
    found = drawn(24, [Marked("a"), Marked("b")])
    assert Counter(ids[0][0] for _, ids in found) == {"a": 12, "b": 12}
    assert {ids[0][0] for query, ids in found if query == "q0"} == {"a", "b"}


def test_a_draw_does_not_depend_on_how_many_there_are() -> None:
    pools = [Marked("a"), Marked("b")]
    assert drawn(7, pools) == drawn(20, pools)[:7]
    assert drawn(7, pools, seed=1) != drawn(7, pools)


def test_queries_for_which_a_pool_has_too_few_are_passed_over_and_none_left_ends_it() -> None:
    found = drawn(10, [Marked("a", missing=["q0", "q1"])])
    assert len(found) == 10
    assert not {query for query, _ in found} & {"q0", "q1"}
    assert drawn(10, [Marked("a", missing=list(QUERIES))]) == []
    assert drawn(0, [Marked("a")]) == []


def test_pools_are_told_the_judged_passages_of_grade_one_and_more() -> None:
    pool = Marked("a")
    drawn(6, [pool], qrels={"q0": {"x": 2, "y": 0, "z": -1}})
    assert pool.positives["q0"] == ["x"]
    assert pool.positives["q1"] == []
