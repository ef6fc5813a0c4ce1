"""Result rows: one schema, exact on the way to disk and back, broken files refused with their line."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.reporting.rows import COLUMNS, ResultRow, device_name, read_results_csv, rows_from, write_results_csv
from support.small_suite import FIRST_STAGE, Reversing, small_suite

DESIGNED = (
    "study,scale,system,variant,encoder,backbone,prompt,first_stage,candidates,window,step,collection,metric,value,"
    "spread,n_queries,baseline,p_value,seed,device,version"
)
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
named = text.filter(lambda name: name != "")
finite = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.builds(
        ResultRow,
        study=text,
        system=named,
        variant=text,
        candidates=st.none() | st.integers(0, 1000),
        metric=named,
        value=finite,
        spread=st.none() | finite,
        n_queries=st.none() | st.integers(0, 1000),
        p_value=st.none() | st.floats(0, 1),
        seed=st.none() | st.integers(0, 2**31),
    ),
    max_size=5,
)


def test_the_schema_is_the_designs():
    assert ",".join(COLUMNS) == DESIGNED


@given(rows)
def test_rows_read_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[ResultRow]):
    path = tmp_path_factory.mktemp("rows") / "results.csv"
    write_results_csv(path, rows)
    assert read_results_csv(path) == rows


def test_other_programs_can_read_the_file(tmp_path: Path):
    path = tmp_path / "results.csv"
    write_results_csv(path, [ResultRow(system='PE-Rank, "compact"', metric="ndcg@10", value=0.1)])
    with path.open(newline="") as file:
        assert next(csv.DictReader(file))["system"] == 'PE-Rank, "compact"'


def test_an_evaluation_gives_a_row_a_metric_and_baseline_and_a_row_a_cost():
    suite = small_suite()
    evaluation = evaluate_ranker(Reversing(), suite, system="PE-Rank", progress=False)
    bm25, dense = (evaluate_run(FIRST_STAGE, suite, system=system) for system in ("BM25", "dense"))
    rows = rows_from(evaluation, against=[bm25, dense], study="quickstart", seed=0, window=20)
    quality = [(row.metric, row.baseline, row.value, row.p_value) for row in rows if row.baseline]
    assert quality == [
        (metric, other.system, evaluation.means[metric], evaluation.compare(other, metric).p)
        for metric in ("ndcg@10", "mrr")
        for other in (bm25, dense)
    ]
    costs = {row.metric: row for row in rows if not row.baseline}
    assert list(costs) == [
        *("forwards_per_query", "tokens_processed", "tokens_generated"),
        *("seconds_encode", "seconds_prefill", "seconds_decode", "seconds_per_query"),
    ]
    assert costs["forwards_per_query"].value == 3 and costs["forwards_per_query"].n_queries == 3
    for row in rows:
        assert (row.study, row.system, row.seed, row.window) == ("quickstart", "PE-Rank", 0, 20)
        assert (row.collection, row.first_stage, row.candidates) == ("small", "bm25", 100)
        assert row.version and row.device


def test_without_baselines_there_is_a_row_a_metric():
    rows = rows_from(evaluate_run(FIRST_STAGE, small_suite(), system="BM25"), first_stage="")
    assert [(row.metric, row.baseline, row.p_value, row.first_stage) for row in rows] == [
        ("ndcg@10", "", None, ""),
        ("mrr", "", None, ""),
    ]


def test_a_system_is_not_its_own_baseline():
    bm25 = evaluate_run(FIRST_STAGE, small_suite(), system="BM25")
    assert {row.baseline for row in rows_from(bm25, against=[bm25])} == {""}


def test_a_column_outside_the_schema_is_refused():
    with pytest.raises(TypeError, match="colour"):
        rows_from(evaluate_run(FIRST_STAGE, small_suite()), colour="red")


def test_the_device_is_named_with_its_cores():
    name = device_name("cpu")
    assert name.startswith("CPU, ") and int(name.split()[1]) >= 1


@pytest.mark.parametrize("column", ["value", "spread", "p_value"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path: Path, column: str, number: float):
    row = dataclasses.replace(ResultRow(system="s", metric="m", value=0.0), **{column: number})
    with pytest.raises(BadInput, match=column):
        write_results_csv(tmp_path / "results.csv", [row])
    assert list(tmp_path.iterdir()) == []


def test_a_newline_in_a_cell_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="newline"):
        write_results_csv(tmp_path / "results.csv", [ResultRow(system="a\nb", metric="m", value=0.0)])


def broken(column: str, cell: str) -> str:
    cells = dict.fromkeys(COLUMNS, "") | {"system": "s", "metric": "m", "value": "0.5", column: cell}
    return f"{DESIGNED}\n{','.join(cells.values())}\n"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "system,metric,value\na,b,1\n",
        f"{DESIGNED}\ns,m,0.5\n",
        broken("value", "high"),
        broken("value", "nan"),
        broken("value", ""),
        broken("seed", "1.5"),
        broken("p_value", "inf"),
        broken("system", ""),
        broken("system", '"open'),
    ],
)
def test_a_broken_results_file_is_refused_with_its_line(tmp_path: Path, content: str):
    path = tmp_path / "results.csv"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"results\.csv:[12]"):
        read_results_csv(path)
