"""Tables of result rows: every value in its place, none picked silently."""

from __future__ import annotations

import io

import pytest

from perank.errors import BadInput
from perank.reporting.rows import ResultRow
from perank.reporting.tables import markdown_table, render_table, table_cells

ROWS = [
    ResultRow(system="BM25", metric="ndcg@10", value=0.5058, collection="dl19"),
    ResultRow(system="PE-Rank", variant="aligned", metric="ndcg@10", value=0.4, baseline="BM25", p_value=0.0123),
    ResultRow(system="PE-Rank", variant="aligned", metric="ndcg@10", value=0.4, baseline="encoder", p_value=0.00001),
    ResultRow(system="PE-Rank", variant="aligned", metric="mrr", value=0.75),
    ResultRow(system="PE-Rank", variant="aligned", metric="forwards_per_query", value=19),
    ResultRow(system="PE-Rank", variant="aligned", metric="tokens_processed", value=326.9),
    ResultRow(system="PE-Rank", variant="aligned", metric="seconds_per_query", value=0.25),
]


def test_systems_are_lines_and_metrics_tests_and_costs_are_columns():
    header, lines = table_cells(ROWS)
    assert header == [
        *("system", "variant", "ndcg@10", "p vs BM25", "p vs encoder"),
        *("seconds/query", "forwards/query", "tokens/query"),
    ]
    assert lines == [
        ["BM25", "", "0.5058", "", "", "", "", ""],
        ["PE-Rank", "aligned", "0.4000", "0.012", "<0.001", "0.250", "19.0", "326.9"],
    ]


def test_columns_that_nothing_fills_are_left_out():
    assert table_cells(ROWS[:1]) == (["system", "ndcg@10"], [["BM25", "0.5058"]])


def test_with_several_metrics_a_test_says_which_it_is_of():
    header, _ = table_cells(ROWS, metrics=["mrr", "ndcg@10"])
    assert header[2:6] == ["mrr", "ndcg@10", "ndcg@10 p vs BM25", "ndcg@10 p vs encoder"]


def test_two_values_for_one_cell_are_refused_until_a_column_tells_them_apart():
    rows = [*ROWS, ResultRow(system="BM25", metric="ndcg@10", value=0.7, collection="dl20")]
    with pytest.raises(BadInput, match=r"two values of ndcg@10 for BM25"):
        table_cells(rows)
    assert len(table_cells(rows, by=["collection", "system"])[1]) == 3


def test_the_same_row_twice_is_refused():
    with pytest.raises(BadInput, match="two values"):
        table_cells([ROWS[0], ROWS[0]])


def test_no_rows_make_an_empty_table():
    assert table_cells([]) == ([], [])
    assert markdown_table([]) == ""


def test_terminals_show_brackets_in_names_as_they_are():
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=120)
    console.print(render_table([*ROWS, ResultRow(system="ours [bold]", metric="ndcg@10", value=0.6)], title="DL19"))
    assert "ours [bold]" in out.getvalue() and "0.5058" in out.getvalue() and "DL19" in out.getvalue()


def test_markdown_aligns_numbers_to_the_right_and_escapes_bars():
    rows = [ResultRow(system="a|b", metric="ndcg@10", value=0.6)]
    assert markdown_table(rows) == "| system | ndcg@10 |\n| --- | ---: |\n| a\\|b | 0.6000 |\n"
