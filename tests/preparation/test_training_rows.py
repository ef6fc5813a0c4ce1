"""Rows from a file are checked at once; rows that are drawn are kept for as long as nothing they depend on changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from perank.errors import BadInput
from perank.preparation.training_rows import RowTeacher, training_rows
from perank.records import Passage, Qrels, Query
from perank.retrieval.bm25 import Bm25
from perank.retrieval.encoding import QueryVectors, cached_store
from perank.training.rows import RankRow, write_rows
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


def rows(collection: Small | None = None, first_stage: Any = None, **options: Any) -> list[RankRow]:
    collection = collection or Small()
    encoder = HashEncoder(4)
    store = cached_store(collection.name, collection.passages, encoder)
    vectors = QueryVectors(collection.queries, encoder)
    settings = {"rows": 10, "candidates": 4, "pool_depth": 8, **options}
    return training_rows(collection, first_stage or Bm25(), store, vectors, **settings)


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
        {"teacher": RowTeacher(judged_first=False)},
        {"teacher": RowTeacher(kind="fused", weight=0.05)},
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
        orders.append([row.order for row in rows(teacher=RowTeacher(kind="run", path=run))])
    assert orders[0] != orders[1]
    with pytest.raises(BadInput, match=r"teacher\.path"):
        rows(teacher=RowTeacher(kind="run", path=tmp_path / "none.trec"))


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
        ({"rows": 0}, "no rows"),
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
    alone = rows(replace(Small(), qrels=qrels), pools=["log_uniform"], teacher=RowTeacher(judged_first=False))
    assert [row.passage_ids for row in judged] == [row.passage_ids for row in alone]
    assert all(row.passage_ids[row.order[0]] == "p5" for row in judged)
    assert any(row.passage_ids[row.order[0]] != "p5" for row in alone)


@pytest.mark.parametrize("settings", [{"kind": "oracle"}, {"kind": "run"}, {"kind": "fused"}, {"weight": 0.1}])
def test_a_teacher_with_settings_of_another_kind_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"no teacher of kind .* \(choose teacher="):
        RowTeacher(**settings)
