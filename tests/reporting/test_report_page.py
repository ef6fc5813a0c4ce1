"""report.html in headless Chromium: no network, no console errors; it sorts, filters, and fits 400 and 1,100 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.reporting.report import ReportSettings, report_data, write_report
from support.small_suite import FIRST_STAGE, Keeping, Reversing, small_suite


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    suite = small_suite()
    evaluations = [evaluate_run(FIRST_STAGE, suite, system="bm25")]
    for name, ranker in {"kept": Keeping(), "reversed": Reversing()}.items():
        evaluations.append(evaluate_ranker(ranker, suite, system=name, progress=False))
    data = report_data([(suite, evaluations)], ReportSettings(), "seed: 0\n", "An evaluation")
    data["suites"][0]["queries"][1]["text"] = "<img src=x onerror=alert(1)> & 'quoted'"
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, data)
    return path


@pytest.fixture(params=[400, 1100])
def page(browser: Any, path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": request.param, "height": 800})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            problems.append(request.url)
            if not request.url.startswith("file:") and not request.url.startswith("data:")
            else None
        ),
    )
    page.goto(path.as_uri())
    yield page
    page.close()
    assert problems == []


def ids(page: Any) -> list[str]:
    return page.locator("#queries tr.query td:first-child").all_inner_texts()


def test_it_loads_without_network_and_shows_means_wins_and_costs(page: Any) -> None:
    assert page.locator("h1").inner_text() == "An evaluation"
    assert "reversed" in page.locator("#means").inner_text() and "[" in page.locator("#means").inner_text()
    assert "1 / " in page.locator("#against").inner_text() or "2 / " in page.locator("#against").inner_text()
    assert "3.000" in page.locator("#costs").inner_text()
    page.locator("#config summary").click()
    assert "seed: 0" in page.locator("#config").inner_text()


def test_it_sorts_by_every_column_both_ways(page: Any) -> None:
    for key in ("id", "text", "before", "after", "change"):
        column = [key == name for name in ("id", "text", "before", "after", "change")].index(True)
        cells = f"#queries tr.query td:nth-child({column + 1})"
        seen = []
        for _ in range(2):
            page.locator(f"#queries th button[data-key={key}]").click()
            texts = page.locator(cells).all_inner_texts()
            seen.append([float(t.replace("\u2212", "-")) for t in texts] if column > 1 else [t.lower() for t in texts])
        assert sorted(seen[0]) == sorted(seen[1])
        if column != 1:
            assert {tuple(seen[0]), tuple(seen[1])} == {tuple(sorted(seen[0])), tuple(sorted(seen[0], reverse=True))}
    assert page.locator("#queries th[aria-sort]").count() == 1


def test_it_filters_by_text_passage_and_direction(page: Any) -> None:
    assert len(ids(page)) == 4
    page.fill("#filter", "Q3")
    assert ids(page) == ["q3"]
    page.fill("#filter", "p5")
    assert ids(page) == ["q2"]
    page.fill("#filter", "")
    page.select_option("#which", "up")
    changes = page.locator("#queries tr.query td:last-child").all_inner_texts()
    assert changes and all(change.startswith("+") for change in changes)
    page.fill("#filter", "nothing has this")
    assert ids(page) == [] and page.locator("#count").inner_text().startswith("0 of 4")


def test_a_query_opens_to_its_candidates_before_and_after(page: Any) -> None:
    page.locator("#queries td button", has_text="q1").click()
    before, after = page.locator("#queries .sides > div").all()
    assert "bm25" in before.inner_text() and before.locator("li b").all_inner_texts() == ["p1", "p2", "p3", "p4"]
    assert "reversed" in after.inner_text() and after.locator("li b").all_inner_texts() == ["p4", "p3", "p2", "p1"]
    assert after.locator("li .grade").all_inner_texts() == ["2", "\u2013", "\u2013", "1"]
    assert "text of p4" in after.inner_text()
    page.select_option("#after", "1")
    assert page.locator("#queries .sides > div").last.locator("li b").first.inner_text() == "p1"
    page.locator("#queries td button", has_text="q1").click()
    assert page.locator("#queries .sides").count() == 0


def test_texts_are_shown_as_they_are(page: Any) -> None:
    assert page.locator("#queries").get_by_text("<img src=x onerror=alert(1)> & 'quoted'").count() == 1
    assert page.locator("img").count() == 0


def test_it_fits_the_window(page: Any) -> None:
    page.locator("#queries td button", has_text="q1").click()
    width = page.viewport_size["width"]
    right = "elements => Math.max(...elements.map(element => element.getBoundingClientRect().right))"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("td, th").evaluate_all(right) <= width  # without scrolling within a table


def test_every_cost_has_its_name(page: Any) -> None:
    costs = page.locator("#costs tbody tr").first.locator("td.n")
    names = [name.split(" ")[0] for name in costs.evaluate_all("cells => cells.map(cell => cell.dataset.name)")]
    assert names == ["forwards", "tokens", "tokens", "seconds", "seconds", "seconds", "wall"]
    labels = costs.evaluate_all("cells => cells.map(cell => getComputedStyle(cell, '::before').content)")
    heads = page.locator("#costs thead th.n").filter(visible=True).all_inner_texts()
    shown = [label.strip('"') for label in labels if label != "none"] + heads
    assert [name.split(" ")[0] for name in shown] == names
