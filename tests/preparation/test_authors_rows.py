"""Between the authors' rows and rows of ids: the reference prompts, the query inside them, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.model.prompts import clean
from perank.model.templates import ALIGN_INSTRUCTIONS
from perank.preparation.authors_jsonl import PLACEHOLDER, RankingRow, read_ranking
from perank.preparation.authors_rows import alignment_row, plain_rows, query_of, ranking_row

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
