"""Training rows as a file holds them: written and read without loss, refused by line where one is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.records import Query
from perank.training.rows import RankRow, read_rows, write_rows

ROW = {"query_id": "q1", "query": "which otter", "passages": ["a", "b", "c"], "order": [2, 0, 1]}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@st.composite
def rows(draw: st.DrawFn) -> RankRow:
    ids = draw(st.lists(TEXTS, unique=True, min_size=1, max_size=6))
    order = draw(st.permutations(range(len(ids))))
    return RankRow(Query(draw(TEXTS), draw(TEXTS)), tuple(ids), tuple(order))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(rows(), max_size=4))
def test_what_is_written_is_read_again(tmp_path: Path, written: list[RankRow]) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_rows(path, written) == len(written)
    assert read_rows(path) == written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": ""}, "no text"),
        ({"query": " \t"}, "no text"),
        ({"query": 3}, "found int"),
        ({"query": "\ud800"}, "surrogate"),
        ({"query_id": None}, "found NoneType"),
        ({"query_id": " "}, "no id"),
        ({"passages": [], "order": []}, "not a list of ids"),
        ({"passages": ["a", " ", "c"]}, "not a list of ids"),
        ({"passages": "abc"}, "not a list"),
        ({"passages": ["a", 1, "c"]}, "not a list of ids"),
        ({"passages": ["a", "b", "a"]}, "twice"),
        ({"order": [0, 1]}, "permutation"),
        ({"order": [1, 2, 3]}, "permutation"),
        ({"order": [0, 0, 1]}, "permutation"),
        ({"order": [0.0, 1.0, 2.0]}, "permutation"),
        ({"order": [True, False, 2]}, "permutation"),
        ({"order": "210"}, "permutation"),
        ({"order": None}, "permutation"),
        ({"rank": 1}, "expected the fields"),
    ],
    ids=str,
)
def test_a_broken_row_is_refused_by_its_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n\n{json.dumps(ROW | change)}\n")
    with pytest.raises(BadInput, match=said) as caught:
        read_rows(path)
    assert (caught.value.path, caught.value.line) == (path, 3)


@pytest.mark.parametrize("field", ROW)
def test_a_missing_field_is_refused_by_its_line(tmp_path: Path, field: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({key: value for key, value in ROW.items() if key != field}))
    with pytest.raises(BadInput, match="expected the fields") as caught:
        read_rows(path)
    assert caught.value.line == 1


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"query": ', "\x00"])
def test_a_line_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_rows(path)
    assert (caught.value.path, caught.value.line) == (path, 1)


def test_an_interrupted_writing_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = RankRow(Query("q", "a query"), ("a", "b"), (1, 0))
    write_rows(path, [row])

    def breaking() -> Any:
        yield row
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(path, breaking())
    assert read_rows(path) == [row]
    assert list(tmp_path.iterdir()) == [path]


def test_an_order_that_is_no_permutation_is_no_row() -> None:
    with pytest.raises(ValueError, match="not a permutation"):
        RankRow(Query("q", "a query"), ("a", "b"), (1, 1))
