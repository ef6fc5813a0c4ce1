"""The page at / in headless Chromium: it ranks, shows errors, needs nothing from elsewhere, and fits 400 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from perank import Reranker

PASSAGES = ["open a file", "sort a list in place", "an otter holds hands", "a very " + "long" * 60 + " word"]


@pytest.fixture(params=[400, 1100])
def page(browser: Any, client: httpx.Client, request: pytest.FixtureRequest) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": request.param, "height": 800})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: problems.append(asked.url) if not asked.url.startswith(address) else None)
    address = str(client.base_url)
    page.goto(address)
    yield page
    width = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert problems == [] and width <= request.param


def fill(page: Any, query: str, passages: list[str]) -> None:
    page.fill("#query", query)
    page.fill("#passages", "\n".join(passages))
    page.click("#rank")


def texts(page: Any, column: str) -> list[str]:
    return page.locator(f"#{column} li .text").all_inner_texts()  # type: ignore[no-any-return]


def test_it_shows_the_first_stages_order_and_the_ranking(page: Any, texts_reranker: Reranker) -> None:
    fill(page, "which otter holds hands", PASSAGES)
    page.locator("#after li").nth(3).wait_for()
    order = texts_reranker.rank("which otter holds hands", PASSAGES).order
    assert texts(page, "before") == PASSAGES
    assert texts(page, "after") == [PASSAGES[i] for i in order]
    moves = [text.split()[-1] for text in page.locator("#after li .move").all_inner_texts()]
    assert moves == ["=" if i == rank else f"{'▲' if i > rank else '▼'}{abs(i - rank)}" for rank, i in enumerate(order)]
    assert "forwards of the LLM" in page.locator("#bill").inner_text()
    page.locator("#after li").first.hover()
    assert page.locator("#before li.marked .text").inner_text() == PASSAGES[order[0]]


def test_it_shows_what_is_wrong_and_markup_as_text(page: Any) -> None:
    fill(page, "which otter", ["<img src=x onerror=alert(1)>", "an otter"])
    page.locator("#after li").nth(1).wait_for()
    assert "<img src=x onerror=alert(1)>" in texts(page, "before") and page.locator("img").count() == 0
    fill(page, "   ", PASSAGES)
    page.locator("#status.problem").wait_for()
    assert "query" in page.locator("#status").inner_text() and page.locator("#results").is_hidden()
