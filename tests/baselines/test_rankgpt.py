"""RankGPT over a real socket: bad days of the API, what they cost, and going on after an interruption."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perank.baselines.chat_api import ChatApi
from perank.baselines.rankgpt import RankGPT, messages
from perank.errors import Absent, BadInput
from perank.ranking.windows import Windows
from perank.records import Candidates, Query, Ranker
from support import small_llms
from support.chat_server import ChatServer, Mood, backwards, passages_in
from support.forked import fork
from support.sliding import slide

PRICES = {"input_price": 1000.0, "output_price": 10_000.0}  # dollars a million tokens: 0.1 + 0.1 a window
BATCH = [small_llms.candidates(n, seed) for seed, n in enumerate((12, 1, 0, 5, 8))]
WINDOWS = Windows(6, 3)


@contextmanager
def asked(mood: Mood, cache: Path, **options: Any) -> Iterator[tuple[RankGPT, ChatServer]]:
    server = ChatServer(mood)
    options = {"key_variable": None, "patience": 0.001, "timeout": 5.0, "cache": cache, **PRICES, **options}
    with server.running() as url:
        yield RankGPT(ChatApi("gpt-test", url, **options), windows=WINDOWS), server


def expected(n: int) -> tuple[int, ...]:
    """Every window turned around."""
    return tuple(slide(WINDOWS.plan(n), n, lambda positions, depth: range(len(positions) - 1, -1, -1)))


def windows_asked() -> int:
    return sum(len(WINDOWS.plan(len(found))) for found in BATCH if len(found) > 1)


def test_rankings_bills_and_company_on_a_good_day(tmp_path: Path) -> None:
    with asked(backwards, tmp_path / "a") as (ranker, server):
        assert isinstance(ranker, Ranker)
        rankings = ranker.rank_batch(BATCH)
        assert [found.order for found in rankings] == [expected(len(found)) for found in BATCH]
        assert len(server.asked) == windows_asked()
        assert server.keys == [None] * len(server.asked)
        bill = rankings[0].bill
    assert (bill.forwards, bill.tokens_processed, bill.tokens_generated, bill.repairs) == (3, 300, 30, 0)
    assert bill.dollars == pytest.approx(0.6)
    with asked(backwards, tmp_path / "b") as (ranker, _):
        assert [ranker.rank_batch([found])[0].order for found in BATCH] == [found.order for found in rankings]


def once_each(bad: dict[str, Any]) -> Mood:
    """Every second request goes wrong."""
    return lambda number, shown: bad if number % 2 == 0 else backwards(number, shown)


@pytest.mark.parametrize(
    "bad",
    [
        {"status": 429, "headers": {"Retry-After": "0.01"}},
        {"status": 429, "headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}},
        {"status": 500, "body": "<html>oops</html>"},
        {"status": 503},
        {"body": '{"choices": [{"message": {"content": "[2] >'},
        {"body": '{"choices": [], "usage": {}}'},
        {"body": "[]"},
        {"body": ""},
        {"text": "[2] > [1]", "missing": 500},
        {"text": "too late", "sleep": 0.6},
    ],
    ids=lambda bad: str(bad)[:40],
)
def test_a_bad_answer_is_asked_for_again_and_nothing_is_lost(bad: dict[str, Any], tmp_path: Path) -> None:
    with asked(once_each(bad), tmp_path, timeout=0.3, concurrency=1, attempts=20) as (ranker, server):
        rankings = ranker.rank_batch(BATCH[:1] + BATCH[3:])
        assert [found.order for found in rankings] == [expected(n) for n in (12, 5, 8)]
        assert len(server.asked) == 2 * windows_asked()
    assert sum(found.bill.dollars for found in rankings) == pytest.approx(0.2 * windows_asked())


@pytest.mark.parametrize(
    ("text", "top"),
    [("I can't do that.", 0), ("The best is passage 3.", 2), ("[9] > [3] > [3] > [77]", 2), (None, 0), ("", 0)],
)
def test_garbage_becomes_a_permutation_and_repairs_are_on_the_bill(text: str | None, top: int, tmp_path: Path) -> None:
    with asked(lambda number, shown: {"text": text}, tmp_path) as (ranker, _):
        (found,) = ranker.rank_batch([small_llms.candidates(5)])
    assert sorted(found.order) == list(range(5))
    assert found.order[0] == top
    assert found.bill.repairs >= 4


def test_no_more_requests_run_at_once_than_allowed(tmp_path: Path) -> None:
    def slow(number: int, shown: list[dict[str, str]]) -> dict[str, Any]:
        return {"text": backwards(number, shown), "sleep": 0.05}

    with asked(slow, tmp_path, concurrency=3) as (ranker, server):
        ranker.rank_batch([small_llms.candidates(4, seed) for seed in range(9)])
        assert server.most_at_once == 3


def test_a_rerun_asks_nothing_costs_nothing_and_says_the_same(tmp_path: Path) -> None:
    with asked(backwards, tmp_path) as (ranker, server):
        first = ranker.rank_batch(BATCH)
        count = len(server.asked)
        again = ranker.rank_batch(BATCH)
        assert len(server.asked) == count
    assert [found.order for found in again] == [found.order for found in first]
    assert [replace(found.bill, dollars=0.0) for found in first] == [found.bill for found in again]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    def dying(number: int, shown: list[dict[str, str]]) -> dict[str, Any] | str:
        return backwards(number, shown) if number < 3 else {"status": 401, "body": "the key has expired"}

    server = ChatServer(dying)
    with server.running() as url:
        api = ChatApi("gpt-test", url, key_variable=None, cache=tmp_path, concurrency=1)
        with pytest.raises(BadInput, match="status 401: the key has expired"):
            RankGPT(api, windows=WINDOWS).rank_batch(BATCH)
        server.mood = backwards
        rankings = RankGPT(api, windows=WINDOWS).rank_batch(BATCH)
    assert [found.order for found in rankings] == [expected(len(found)) for found in BATCH]
    assert len(server.asked) == windows_asked() + 1  # nothing was asked twice but the refused one


@pytest.mark.parametrize("struck", range(6))
def test_a_killed_run_goes_on_and_asks_nothing_twice_that_was_kept(tmp_path: Path, struck: int) -> None:
    victim: list[int] = []

    def deadly(number: int, shown: list[dict[str, str]]) -> str:
        if number == struck:
            os.kill(victim[0], signal.SIGKILL)
        return backwards(number, shown)

    server = ChatServer(deadly)
    with server.running() as url:
        api = ChatApi("gpt-test", url, key_variable=None, cache=tmp_path, concurrency=2)
        victim.append(fork(lambda: RankGPT(api, windows=WINDOWS).rank_batch(BATCH) and None))
        _, status = os.waitpid(victim[0], 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        kept = len(list(tmp_path.rglob("*.json")))
        server.mood, before = backwards, len(server.asked)
        rankings = RankGPT(api, windows=WINDOWS).rank_batch(BATCH)
    assert [found.order for found in rankings] == [expected(len(found)) for found in BATCH]
    assert len(server.asked) - before == windows_asked() - kept
    assert kept >= struck - 1  # of two at once one may have been on its way


def test_a_kept_answer_that_was_torn_is_asked_for_again(tmp_path: Path) -> None:
    with asked(backwards, tmp_path) as (ranker, server):
        (first,) = ranker.rank_batch([small_llms.candidates(5)])
        (kept,) = tmp_path.rglob("*.json")
        kept.write_bytes(kept.read_bytes()[:30])
        (again,) = ranker.rank_batch([small_llms.candidates(5)])
        assert (again.order, len(server.asked)) == (first.order, 2)


def test_an_api_that_never_answers_is_given_up_with_what_to_do(tmp_path: Path) -> None:
    with asked(lambda number, shown: {"status": 500}, tmp_path, attempts=3) as (ranker, server):
        with pytest.raises(
            BadInput, match=r"no answer in 3 attempts: status 500 \(run again later: answers received so far"
        ):
            ranker.rank_batch([small_llms.candidates(5)])
        assert len(server.asked) == 3


def test_nobody_there_is_given_up_too(tmp_path: Path) -> None:
    api = ChatApi("gpt-test", "http://127.0.0.1:9", key_variable=None, cache=tmp_path, attempts=2, patience=0.001)
    with pytest.raises(BadInput, match="no answer in 2 attempts: ConnectError"):
        RankGPT(api).rank_batch([small_llms.candidates(3)])


def test_texts_are_shortened_where_the_endpoint_says_they_are_too_long(tmp_path: Path) -> None:
    def small_context(number: int, shown: list[dict[str, str]]) -> dict[str, Any] | str:
        if sum(len(message["content"].split()) for message in shown) > 150:
            return {"status": 400, "body": '{"error": {"code": "context_length_exceeded"}}'}
        return backwards(number, shown)

    found = small_llms.candidates(5)
    long = replace(found, passages=tuple(replace(p, text=f"{p.text} " * 20) for p in found.passages))
    with asked(small_context, tmp_path) as (ranker, _):
        (ranking,) = ranker.rank_batch([long])
        assert (ranking.order, ranking.bill.texts_shortened) == (expected(5), 5)
        with pytest.raises(BadInput, match="too long for the model even without their texts"):
            ranker.rank_batch([replace(found, query=Query("q", "otter " * 300))])


def test_the_key_comes_from_the_environment_and_its_absence_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(Absent, match="no key in the environment variable TEST_KEY"):
        ChatApi("gpt-test", key_variable="TEST_KEY")
    monkeypatch.setenv("TEST_KEY", "s3cret")
    with asked(backwards, tmp_path, key_variable="TEST_KEY") as (ranker, server):
        ranker.rank_batch([small_llms.candidates(3)])
        assert server.keys == ["Bearer s3cret"]
    assert not [path for path in tmp_path.rglob("*.json") if "s3cret" in path.read_text()]


def test_the_conversation_is_rankgpts() -> None:
    said = messages("which otter", ["a sea otter", "rain"])
    assert [message["role"] for message in said] == [
        *("system", "user", "assistant"),
        *("user", "assistant", "user", "assistant"),
        "user",
    ]
    assert said[1]["content"].startswith(
        "I will provide you with 2 passages, each indicated by number identifier []. \n"
    )
    assert said[3]["content"] == "[1] a sea otter"
    assert said[4]["content"] == "Received passage [1]."
    assert said[-1]["content"].startswith("Search Query: which otter. \nRank the 2 passages above")
    assert passages_in([dict(message) for message in said]) == 2


def test_an_empty_query_is_refused(tmp_path: Path) -> None:
    with asked(backwards, tmp_path) as (ranker, _), pytest.raises(BadInput, match="the query is empty"):
        ranker.rank_batch([Candidates(Query("q", " "), small_llms.candidates(2).passages)])


def test_fewer_than_one_attempt_or_connection_is_refused() -> None:
    with pytest.raises(BadInput, match="concurrency is 0"):
        ChatApi("gpt-test", key_variable=None, concurrency=0)
