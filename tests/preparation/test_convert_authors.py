"""The authors' JSONL in and out: nothing is lost on the way, and what their form can't hold is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.model.prompts import clean
from perank.model.templates import ALIGN_INSTRUCTIONS
from perank.preparation import convert_authors as authors
from perank.preparation.authors_jsonl import PLACEHOLDER, RankingRow, read_alignment, read_ranking
from perank.preparation.convert_authors import alignment_row, plain_rows, query_of, ranking_row
from perank.records import Passage, Query
from perank.sources.beir import TextFolder
from perank.training.rows import RankRow, read_rows, write_rows
from support.fake_encoders import collection

SMALL = collection({"a": "one text", "b": "another text", "c": "a third"}, {"q": "which text"})


def exported(folder: Path) -> Path:
    rows = [
        RankRow(Query("q", "which text"), ("c", "a", "b"), (2, 0, 1)),
        RankRow(Query("r", "that"), ("a", "b"), (1, 0)),
    ]
    write_rows(folder / "rows.jsonl", rows)
    assert authors.export_ranking(SMALL, folder / "rows.jsonl", folder / "theirs.jsonl", None) == {"rows": 2}
    return folder / "theirs.jsonl"


def test_ranking_rows_go_out_and_come_back_with_queries_texts_and_orders(tmp_path: Path) -> None:
    theirs = read_ranking(exported(tmp_path))
    assert theirs[0].passages == ("a third", "one text", "another text")
    counts = authors.import_ranking(tmp_path / "theirs.jsonl", tmp_path / "ours")
    assert counts == {"passages": 3, "queries": 2, "rows": 2}
    folder, rows = TextFolder(tmp_path / "ours"), read_rows(tmp_path / "ours" / "rows.jsonl")
    assert [folder.queries[row.query.id].text for row in rows] == ["which text", "that"]
    assert [[folder.passages[row.passage_ids[i]].text for i in row.order] for row in rows] == [
        ["another text", "a third", "one text"],
        ["another text", "one text"],
    ]


def test_alignment_rows_hold_every_text_with_the_instructions_in_turn(tmp_path: Path) -> None:
    assert authors.export_alignment(SMALL, tmp_path / "align.jsonl", 2) == {"rows": 2}
    rows = read_alignment(tmp_path / "align.jsonl")
    assert [row.answer for row in rows] == ["one text", "another text"]
    assert rows[0].user != rows[1].user
    assert authors.import_alignment(tmp_path / "align.jsonl", tmp_path / "ours") == {"passages": 2}
    assert [p.text for p in TextFolder(tmp_path / "ours").passages.values()] == ["one text", "another text"]


def test_a_row_of_another_collection_is_refused_by_line_and_id(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [RankRow(Query("q", "x"), ("a", "z"), (0, 1))])
    with pytest.raises(BadInput, match="no text for this passage") as caught:
        authors.export_ranking(SMALL, tmp_path / "rows.jsonl", tmp_path / "out.jsonl", None)
    assert (caught.value.line, caught.value.id) == (1, "z")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_text_that_their_tokenizer_would_read_as_a_token_is_refused_by_id(tmp_path: Path) -> None:
    marked = replace(SMALL, passages={"m": Passage("m", "a <PLACEHOLDER> in a text")})
    with pytest.raises(BadInput, match="PLACEHOLDER") as caught:
        authors.export_alignment(marked, tmp_path / "out.jsonl", None)
    assert caught.value.id == "m"


@pytest.mark.parametrize("read", [authors.import_ranking, authors.import_alignment])
def test_a_file_without_rows_is_refused(tmp_path: Path, read: object) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BadInput, match="no rows"):
        read(tmp_path / "empty.jsonl", tmp_path / "out")  # type: ignore[operator]


def test_the_authors_own_rows_become_a_folder_to_train_on(shared: Path, tmp_path: Path) -> None:
    counts = authors.import_ranking(shared / "fixtures" / "pe_rank" / "stage2.jsonl", tmp_path)
    assert counts["rows"] == len(read_rows(tmp_path / "rows.jsonl")) > 0
    first = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    assert set(first["passages"]) <= set(TextFolder(tmp_path).passages)


# A row: the reference prompts, and the query inside them

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15).filter(
    lambda text: clean(text) and PLACEHOLDER not in text
)


def test_the_authors_rows_are_made_again_from_their_queries_texts_and_orders(shared: Path) -> None:
    for row in read_ranking(shared / "fixtures" / "pe_rank" / "stage2.jsonl"):
        assert ranking_row(query_of(row), row.passages, row.order) == row


@settings(deadline=None, max_examples=60)
@given(TEXT, st.lists(TEXT, min_size=1, max_size=4), st.randoms())
def test_query_passages_and_order_survive_the_prompt(query: str, passages: list[str], random: object) -> None:
    order = list(range(len(passages)))
    random.shuffle(order)  # type: ignore[attr-defined]
    (plain,), texts = plain_rows([ranking_row(query, passages, order)])
    assert plain.query.text == clean(query)
    assert [texts[id].text for id in plain.passage_ids] == passages
    assert plain.order == tuple(order)


def test_equal_texts_share_an_id_between_rows_but_not_within_one() -> None:
    plain, texts = plain_rows([ranking_row("q", ["a", "a"], [1, 0]), ranking_row("r", ["b", "a"], [0, 1])])
    first, second = (row.passage_ids for row in plain)
    assert len(set(first)) == 2
    assert second[1] == first[0]
    assert len(texts) == 3


def test_every_instruction_of_table_7_makes_a_row_with_one_slot() -> None:
    for instruction in ALIGN_INSTRUCTIONS:
        row = alignment_row(instruction, "cats")
        assert row.user.count(PLACEHOLDER) == 1
        assert (row.answer, row.texts) == ("cats", ("cats",))


@pytest.mark.parametrize("user", ["rank <PLACEHOLDER>", ranking_row("q", ["a"], [0]).user + " please"])
def test_a_prompt_that_is_not_the_reference_prompt_gives_no_query(user: str) -> None:
    with pytest.raises(BadInput, match="not the reference prompt for 1 passages"):
        query_of(RankingRow(user, user, ("a",), (0,)))
