"""report.html: its data, its embedding, and pages of several runs joined."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.reporting.report import ReportSettings, merged, read_report, report_data, write_report
from perank.tabulate import tabulate
from support.small_suite import FIRST_STAGE, Keeping, Reversing, SmallCollection, small_suite


def data_of(system: str = "reversed", ranker: Any = None, **settings: Any) -> dict[str, Any]:
    suite = small_suite()
    evaluations = [evaluate_run(FIRST_STAGE, suite, system="bm25")]
    evaluations.append(evaluate_ranker(ranker or Reversing(), suite, system=system, progress=False))
    return report_data([(suite, evaluations)], ReportSettings(**settings), "suite: small", "A title")


def test_means_intervals_and_wins() -> None:
    (suite,) = data_of()["suites"]
    first, second = suite["systems"]
    low, high = second["means"]["ndcg@10"]["interval"]
    assert low <= second["means"]["ndcg@10"]["mean"] <= high
    against = second["against"]["bm25"]
    changes = [b - a for a, b in zip(first["values"], second["values"], strict=True)]
    assert [against["win"], against["tie"], against["loss"]] == [
        sum(change > 0 for change in changes),
        sum(change == 0 for change in changes),
        sum(change < 0 for change in changes),
    ]
    assert against["win"] and against["tie"] and second["costs"]["forwards_per_query"] == 3.0


def test_candidates_before_and_after_with_grades_scores_and_first_words() -> None:
    query = data_of(words=2, ranks=3)["suites"][0]["queries"][0]
    assert query["text"] == "words of q1"
    assert query["ranked"][0] == [("p1", 5.0), ("p2", 4.0), ("p3", 3.0)]
    assert query["ranked"][1] == [("p4", 1.0), ("p3", 0.5), ("p2", 0.3333)]
    assert query["passages"]["p4"] == [2, "text of ..."] and query["passages"]["p3"][0] is None


def test_without_texts_a_page_has_ids_only(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", data_of(texts=False))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "p4" in page and "text of" not in page and "words of" not in page


def test_only_the_queries_that_change_most_have_candidates_and_all_are_listed() -> None:
    (suite,) = data_of(queries=1)["suites"]
    assert suite["shown"] == 1 and len(suite["queries"]) == 4
    assert sum(bool(query["ranked"]) for query in suite["queries"]) == 1


def test_a_page_is_one_file_whose_texts_cannot_end_the_data(tmp_path: Path) -> None:
    data = data_of() | {"title": "</script><b>&"}
    data["suites"][0]["queries"][0]["text"] = "</script><script>alert(1)</script> & <!-- \u2028"
    write_report(tmp_path / "report.html", data)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2 and "<b>&" not in page
    assert not re.search(r"https?://|src=|@import", page)
    found = read_report(tmp_path / "report.html")
    assert found["suites"][0]["queries"][0]["text"] == data["suites"][0]["queries"][0]["text"]
    (tmp_path / "report.html").write_text("<html></html>")
    with pytest.raises(BadInput, match="not a report"):
        read_report(tmp_path / "report.html")


def test_runs_are_joined_by_suite_and_equal_systems_are_shown_once() -> None:
    runs = {"one": data_of(), "two": data_of(ranker=Keeping()), "three": data_of("kept", Keeping())}
    (suite,) = merged(runs, "3 runs")["suites"]
    assert [system["name"] for system in suite["systems"]] == ["bm25", "reversed", "reversed (two)", "kept"]
    assert all(len(query["ranked"]) == 4 for query in suite["queries"])
    assert [part["name"] for part in merged(runs, "3 runs")["config"]] == ["one", "two", "three"]


def test_runs_on_other_queries_stay_apart() -> None:
    smaller = small_suite(max_queries=2)
    evaluations = [evaluate_run(FIRST_STAGE, smaller, system="bm25")]
    other = report_data([(smaller, evaluations)], ReportSettings())
    names = [suite["name"] for suite in merged({"one": data_of(), "two": other}, "2 runs")["suites"]]
    assert names == ["small", "small (two)"]


def test_tabulate_joins_the_reports_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, ranker in {"one": Reversing(), "two": Keeping()}.items():
        evaluate_ranker(ranker, small_suite(), system=run, progress=False).save(tmp_path / run)
        write_report(tmp_path / run / "report.html", data_of(run, ranker))
    tabulate([tmp_path])
    tabulate([tmp_path])  # its own page is no run
    names = [system["name"] for system in read_report(tmp_path / "report.html")["suites"][0]["systems"]]
    assert names == ["bm25", "one", "two"] and "report.html" in capsys.readouterr().out


def test_a_collection_without_the_text_of_a_passage_shows_its_id() -> None:
    collection = SmallCollection(passages={"p4": SmallCollection().passages["p4"]})
    suite = small_suite(collection=collection)
    data = report_data([(suite, [evaluate_run(FIRST_STAGE, suite, system="bm25")])], ReportSettings())
    assert data["suites"][0]["queries"][0]["passages"]["p1"] == [1, ""]
