"""Tables from measurements: seeds together, the best marked as in the paper, differences tested within blocks."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import ttest_rel

from perank.reporting.grid import Grid, make_grid, tidy_rows
from perank.reporting.layout import Layout
from perank.reporting.render import latex, markdown
from perank.reporting.rows import ResultRow
from perank.reporting.run_results import Measurement

QUERIES = [f"q{i}" for i in range(6)]
MODEL = [0.5, 0.6, 0.7, 0.8, 0.4, 0.6]
CLOSE = [0.6, 0.5, 0.7, 0.7, 0.5, 0.6]
FAR = [0.1, 0.1, 0.3, 0.2, 0.0, 0.1]


def measured(scores: list[float], system: str = "PE-Rank", stage: str = "Bm25", **labels: Any) -> Measurement:
    per_query = dict(zip(QUERIES, scores, strict=True))
    labels = {"system": system, "first_stage": stage, "collection": "dl19", "candidates": 100, **labels}
    return Measurement(labels, {"ndcg@10": sum(scores) / 6, "forwards_per_query": 9.0}, 6, {"ndcg@10": per_query})


def cells(grid: Grid, collection: str = "dl19") -> dict[tuple[str, ...], Any]:
    return {(line.block, *line.shown): line.cells[collection, "ndcg@10"] for line in grid.lines if line.cells}


EVERYTHING = [
    measured(FAR, "Bm25"),
    measured(FAR, "Dense", "Dense"),
    measured(MODEL, seed=0),
    measured(CLOSE, "RankMistral"),
    measured(FAR, "monoBERT"),
    measured(CLOSE, stage="Dense", seed=0),
    measured(MODEL, "RankMistral", "Dense"),
]


def test_blocks_are_first_stages_and_their_own_rankings_stand_outside() -> None:
    grid = make_grid(Layout(names={"dl19": "DL19"}, order=["RankMistral", "PE-Rank"]), EVERYTHING)
    assert [(line.block, *line.shown) for line in grid.lines] == [
        ("", "BM25"),
        ("", "Dense"),
        ("BM25", "RankMistral"),
        ("BM25", "PE-Rank"),
        ("BM25", "monoBERT"),
        ("Dense", "RankMistral"),
        ("Dense", "PE-Rank"),
    ]
    assert grid.columns == [("DL19", "ndcg@10")]


def test_best_of_all_and_best_of_each_block_are_marked_and_ties_share_it() -> None:
    found = cells(make_grid(Layout(), EVERYTHING))
    assert {key for key, cell in found.items() if cell.best} == {
        *((block, system) for block in ("BM25", "Dense") for system in ("PE-Rank", "RankMistral"))
    }
    assert found["BM25", "PE-Rank"].value == pytest.approx(0.6)
    assert not any(cell.best_of_block for key, cell in found.items() if key[0] == "")
    assert found["BM25", "PE-Rank"].best_of_block


def test_a_star_means_no_difference_from_the_blocks_reference_by_the_paired_test() -> None:
    found = cells(make_grid(Layout(), EVERYTHING))
    assert found["BM25", "RankMistral"].p == pytest.approx(ttest_rel(CLOSE, MODEL).pvalue)
    assert found["BM25", "RankMistral"].starred
    assert found["BM25", "monoBERT"].p == pytest.approx(ttest_rel(FAR, MODEL).pvalue)
    assert not found["BM25", "monoBERT"].starred
    assert found["BM25", "PE-Rank"].p is None
    assert found["", "BM25"].p is None
    assert found["Dense", "RankMistral"].p == pytest.approx(ttest_rel(MODEL, CLOSE).pvalue)


def test_seeds_are_averaged_query_by_query_before_the_test() -> None:
    other = [0.3, 0.7, 0.5, 0.6, 0.6, 0.2]
    grid = make_grid(Layout(), [measured(MODEL, seed=0), measured(other, seed=1), measured(CLOSE, "RankMistral")])
    found = cells(grid)
    model = found["BM25", "PE-Rank"]
    assert model.value == pytest.approx((sum(MODEL) + sum(other)) / 12)
    assert (model.seeds, model.spread) == (2, pytest.approx(abs(sum(MODEL) - sum(other)) / 6 / 2**0.5))
    means = [(a + b) / 2 for a, b in zip(MODEL, other, strict=True)]
    assert found["BM25", "RankMistral"].p == pytest.approx(ttest_rel(CLOSE, means).pvalue)


def test_table_3_tests_compressions_against_the_uncompressed_model_at_the_same_n() -> None:
    layout = Layout(
        block="candidates", block_title="n", reference=["RankMistral_p"], metrics=["ndcg@10", "forwards_per_query"]
    )
    rows = [measured(scores, system, candidates=n) for n in (20, 100) for system, scores in _SYSTEMS.items()]
    found = cells(make_grid(layout, rows))
    for n in ("20", "100"):
        assert found[n, "PE-Rank"].starred
        assert not found[n, "RankMistral_t"].starred
        assert found[n, "RankMistral_p"].p is None
    assert "forwards" in markdown(make_grid(layout, rows))


_SYSTEMS = {"RankMistral_p": MODEL, "RankMistral_t": FAR, "PE-Rank": CLOSE}


def test_rows_of_a_csv_bring_their_own_p_values_and_none_is_made_up() -> None:
    row = Measurement({"system": "x", "first_stage": "Bm25"}, {"ndcg@10": 0.5}, p_values={("ndcg@10", "PE-Rank"): 0.3})
    bare = Measurement({"system": "y", "first_stage": "Bm25"}, {"ndcg@10": 0.5})
    reference = Measurement({"system": "PE-Rank", "first_stage": "Bm25"}, {"ndcg@10": 0.6})
    found = cells(make_grid(Layout(), [row, bare, reference]), "")
    assert (found["BM25", "x"].p, found["BM25", "y"].p) == (0.3, None)


def test_the_average_needs_every_collection_and_the_papers_figures_stand_beside() -> None:
    rows = [measured(MODEL), measured(FAR, collection="dl20"), measured(CLOSE, "RankMistral")]
    paper = [
        ResultRow(system="PE-Rank", first_stage="BM25", collection="DL19", metric="ndcg@10", value=0.7048),
        ResultRow(system="RankGPT", first_stage="BM25", collection="DL19", metric="ndcg@10", value=0.7559),
    ]
    layout = Layout(average=True, names={"dl19": "DL19", "dl20": "DL20"}, columns=["DL20", "DL19"])
    grid = make_grid(layout, rows, paper)
    lines = {line.shown[0]: line for line in grid.lines}
    assert grid.columns == [("DL20", "ndcg@10"), ("DL19", "ndcg@10"), ("Avg.", "ndcg@10")]
    assert lines["PE-Rank"].cells["Avg.", "ndcg@10"].value == pytest.approx((0.6 + sum(FAR) / 6) / 2)
    assert ("Avg.", "ndcg@10") not in lines["RankMistral"].cells
    assert lines["RankGPT"].paper["DL19", "ndcg@10"] == 0.7559
    text = markdown(grid, ["Half-finished."])
    assert "| Model | Ret. | DL20 | DL19 | DL19, paper | Avg. |" in text
    assert "| RankGPT | BM25 | - | - | 0.7559 | - |" in text
    assert text.rstrip().endswith("Half-finished.")


def test_markdown_and_latex_mark_alike() -> None:
    rows = [*EVERYTHING, measured([1.0] * 6, "best_of & all"), measured(MODEL, seed=1)]
    grid = make_grid(Layout(title="50 % of it"), rows)
    md, tex = markdown(grid), latex(grid)
    assert "| best_of & all | BM25 | <u>**1.0000**</u> |" in md
    assert r"best\_of \& all & BM25 & \underline{\textbf{1.0000}} \\" in tex
    assert "| RankMistral | BM25 | 0.6000\\* |" in md
    assert r"RankMistral & BM25 & 0.6000$^{*}$ \\" in tex
    assert "0.6000 ±0.0000" in md
    assert r"\caption{50 \% of it" in tex
    assert tex.count(r"\midrule") == 1 + 2


def test_tidy_rows_hold_every_measurement_and_what_seeds_give_together() -> None:
    rows = tidy_rows(Layout(), [measured(MODEL, seed=0), measured(CLOSE, seed=1), measured(FAR, "monoBERT")])
    values = {(row.system, row.metric, row.seed): row for row in rows}
    assert values["PE-Rank", "ndcg@10", 0].value == pytest.approx(0.6)
    assert values["PE-Rank", "ndcg@10", None].spread == 0.0
    assert values["PE-Rank", "forwards_per_query", 1].value == 9.0
    tested = [row for row in rows if row.p_value is not None]
    assert [(row.system, row.baseline) for row in tested] == [("monoBERT", "PE-Rank")]
