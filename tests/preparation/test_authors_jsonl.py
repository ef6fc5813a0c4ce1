"""The authors' JSONL rows: exact round trips, both ways of counting, and refusals that name the line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.model.prompts import SLOT
from perank.preparation.authors_jsonl import (
    AlignmentRow,
    RankingRow,
    read_alignment,
    read_ranking,
    slotted,
    write_alignment,
    write_ranking,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() and "<PLACEHOLDER>" not in text and "<RANK>" not in text
)


@st.composite
def ranking_rows(draw: st.DrawFn) -> RankingRow:
    passages = tuple(draw(st.lists(TEXT, min_size=1, max_size=5)))
    user = draw(TEXT) + "".join(f"[<PLACEHOLDER>]{i}" for i in range(len(passages)))
    with_texts = "".join(f"[<PLACEHOLDER>] {text}\n" for text in passages)
    return RankingRow(user, with_texts, passages, tuple(draw(st.permutations(range(len(passages))))))


@st.composite
def alignment_rows(draw: st.DrawFn) -> AlignmentRow:
    texts = tuple(draw(st.lists(TEXT, min_size=1, max_size=3)))
    slots = draw(st.integers(1, len(texts)))
    return AlignmentRow("<PLACEHOLDER>" * slots + draw(TEXT), draw(TEXT), texts)


def row(ranking: list[Any] | None = None, texts: list[Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A ranking row of three passages as their data has it: b, c, a."""
    chat = [{"role": "user", "content": "[<PLACEHOLDER>] [<PLACEHOLDER>] [<PLACEHOLDER>] by cats"}]
    return {
        "messages_w_content": chat,
        "messages_wo_content": chat,
        "ranking": [1, 2, 0] if ranking is None else ranking,
        "extra_texts": ["a", "b", "c", "b", "c", "a"] if texts is None else texts,
    } | changes


def written(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_authors_rows_come_back_as_the_same_json(shared: Path, tmp_path: Path) -> None:
    folder = shared / "fixtures" / "pe_rank"
    write_alignment(tmp_path / "1", read_alignment(folder / "stage1.jsonl"))
    write_ranking(tmp_path / "2", read_ranking(folder / "stage2.jsonl"))
    for ours, theirs in ((tmp_path / "1", folder / "stage1.jsonl"), (tmp_path / "2", folder / "stage2.jsonl")):
        before, after = ([json.loads(line) for line in path.read_text().splitlines()] for path in (theirs, ours))
        assert before == after
        assert [list(record) for record in before] == [list(record) for record in after]


def test_the_authors_rankings_are_the_positions_best_first(shared: Path) -> None:
    folder = shared / "fixtures" / "pe_rank"
    expected = json.loads((folder / "expected.json").read_text())["stage2"]["rows"]
    assert [list(r.order) for r in read_ranking(folder / "stage2.jsonl")] == [r["ranking"] for r in expected]


@given(st.lists(ranking_rows(), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_ranking_rows_survive_the_disk(tmp_path: Path, rows: list[RankingRow]) -> None:
    assert write_ranking(tmp_path / "rows.jsonl", rows) == len(rows)
    assert read_ranking(tmp_path / "rows.jsonl") == rows


@given(st.lists(alignment_rows(), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_alignment_rows_survive_the_disk(tmp_path: Path, rows: list[AlignmentRow]) -> None:
    assert write_alignment(tmp_path / "rows.jsonl", rows) == len(rows)
    assert read_alignment(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize("ranking", [[1, 2, 0], [2, 3, 1]])
def test_rankings_count_from_0_or_from_1(tmp_path: Path, ranking: list[int]) -> None:
    assert read_ranking(written(tmp_path / "rows.jsonl", row(ranking)))[0].order == (1, 2, 0)


def test_the_order_of_the_ranking_is_the_order_of_the_second_half(tmp_path: Path) -> None:
    (found,) = read_ranking(written(tmp_path / "rows.jsonl", row()))
    assert [found.passages[i] for i in found.order] == ["b", "c", "a"]
    assert slotted(found.user) == f"[{SLOT}] [{SLOT}] [{SLOT}] by cats"


def test_an_assistant_turn_is_overwritten_as_their_code_does(tmp_path: Path) -> None:
    chat = [*row()["messages_wo_content"], {"role": "assistant", "content": "<RANK><RANK>"}]
    (found,) = read_ranking(written(tmp_path / "rows.jsonl", row(messages_wo_content=chat)))
    assert found.user.endswith("by cats")


def test_texts_beyond_the_placeholders_are_kept_and_stand_nowhere(tmp_path: Path) -> None:
    rows = [AlignmentRow("<PLACEHOLDER> again", "a", ("a", "b"))]
    write_alignment(tmp_path / "rows.jsonl", rows)
    (found,) = read_alignment(tmp_path / "rows.jsonl")
    assert found.texts == ("a", "b")
    assert found.spliced == ("a",)


def chat(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


BROKEN_RANKING: dict[str, tuple[dict[str, Any], str]] = {
    "contradiction": (row(texts=["a", "b", "c", "b", "a", "c"]), "contradicts ranking: rank 2 is passage 3"),
    "ranks, not positions": (row([2, 0, 1]), "contradicts ranking"),
    "one half": (row(texts=["a", "b", "c"]), "must hold 6 texts"),
    "too many texts": (row(texts=["a", "b", "c", "b", "c", "a", "a"]), "found 7"),
    "repeated rank": (row([0, 1, 1]), "not a permutation"),
    "from two": (row([2, 3, 4]), "not a permutation of 3"),
    "negative": (row([-1, 0, 1]), "not a permutation"),
    "short": (row([0, 1]), "must hold 4"),
    "booleans": (row([True, 2, False]), "list of integers"),
    "floats": (row([1.0, 2.0, 0.0]), "list of integers"),
    "empty ranking": (row([]), "list of integers"),
    "no ranking": ({k: v for k, v in row().items() if k != "ranking"}, "expected the fields"),
    "unknown field": (row(score=1), "expected the fields.*score"),
    "empty text": (row(texts=["a", "b", " ", "b", " ", "a"]), "a list of non-empty texts"),
    "null text": (row(texts=["a", "b", None, "b", None, "a"]), "list of non-empty texts"),
    "two placeholders": (row(messages_wo_content=chat(("user", "<PLACEHOLDER> <PLACEHOLDER>"))), "2 <PLACEHOLDER>"),
    "placeholder in a text": (
        row(texts=["a", "b", "<PLACEHOLDER>", "b", "<PLACEHOLDER>", "a"]),
        "special tokens of the authors",
    ),
    "label in a text": (row(texts=["a", "b", "<RANK>", "b", "<RANK>", "a"]), "special tokens of the authors"),
    "half a surrogate": (row(texts=["a", "b", "\ud800", "b", "\ud800", "a"]), "surrogate"),
    "system message": (row(messages_w_content=chat(("system", "x"), ("user", "y"))), "one user message"),
    "no messages": (row(messages_w_content=[]), "one user message"),
    "text for messages": (row(messages_w_content="hi"), "list of messages"),
    "message without role": (row(messages_w_content=[{"content": "x"}]), "a role and a content"),
    "content in parts": (row(messages_w_content=chat(("user", [{"text": "x"}]))), "must be text"),
}
BROKEN_ALIGNMENT: dict[str, tuple[dict[str, Any], str]] = {
    "no placeholder": ({"messages": chat(("user", "x"), ("assistant", "a")), "extra_texts": ["a"]}, "0 <PLACEHOLDER>"),
    "fewer texts": (
        {"messages": chat(("user", "<PLACEHOLDER><PLACEHOLDER>"), ("assistant", "a")), "extra_texts": ["a"]},
        "the user message has 2 <PLACEHOLDER> for 1 text",
    ),
    "no answer": ({"messages": chat(("user", "<PLACEHOLDER>")), "extra_texts": ["a"]}, "the assistant's answer"),
    "no texts": ({"messages": chat(("user", "<PLACEHOLDER>"), ("assistant", "a"))}, "expected the fields"),
}


@pytest.mark.parametrize("kind", BROKEN_RANKING)
def test_a_broken_ranking_row_is_refused_with_its_line(tmp_path: Path, kind: str) -> None:
    record, problem = BROKEN_RANKING[kind]
    path = written(tmp_path / "rows.jsonl", row(), row([2, 3, 1]), record)
    with pytest.raises(BadInput, match=problem) as caught:
        read_ranking(path)
    assert (caught.value.path, caught.value.line) == (path, 3)


@pytest.mark.parametrize("kind", BROKEN_ALIGNMENT)
def test_a_broken_alignment_row_is_refused_with_its_line(tmp_path: Path, kind: str) -> None:
    record, problem = BROKEN_ALIGNMENT[kind]
    path = written(tmp_path / "rows.jsonl", record)
    with pytest.raises(BadInput, match=problem) as caught:
        read_alignment(path)
    assert (caught.value.path, caught.value.line) == (path, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RankingRow("<PLACEHOLDER>", "<PLACEHOLDER>", ("a",), (1,)),
        lambda: RankingRow("<PLACEHOLDER>", "none", ("a",), (0,)),
        lambda: RankingRow("", "", (), ()),
        lambda: AlignmentRow("<PLACEHOLDER>", "a", ()),
        lambda: AlignmentRow("<PLACEHOLDER>", "<RANK>", ("a",)),
    ],
)
def test_a_row_their_code_would_misread_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"PLACEHOLDER|permutation"):
        make()


def test_rows_that_fail_halfway_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Any:
        yield RankingRow("<PLACEHOLDER>", "<PLACEHOLDER>", ("a",), (0,))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_ranking(tmp_path / "rows.jsonl", rows())
    assert list(tmp_path.iterdir()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*row(), "messages", "score"]), JSON, st.booleans())
def test_any_value_in_any_field_is_refused_by_line_or_read_as_it_stands(
    tmp_path: Path, field: str, value: object, alignment: bool
) -> None:
    good = {"messages": chat(("user", "<PLACEHOLDER>"), ("assistant", "a")), "extra_texts": ["a"]}
    path = written(tmp_path / "rows.jsonl", (good if alignment else row()) | {field: value})
    try:
        rows = read_alignment(path) if alignment else read_ranking(path)
    except BadInput as error:
        assert (error.path, error.line) == (path, 1)
    else:
        assert len(rows) == 1


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_broken_bytes_are_refused_or_leave_whole_rows(tmp_path: Path, data: st.DataObject) -> None:
    broken = bytearray(json.dumps(row()).encode() + b"\n" + json.dumps(row([2, 3, 1])).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(broken) - 1))
        broken[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(broken)
    try:
        rows = read_ranking(path)
    except BadInput as error:
        assert error.path == path
    else:
        assert all(sorted(found.order) == list(range(len(found.passages))) for found in rows)
