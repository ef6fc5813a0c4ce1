"""The engine under concurrency: rankings are the reranker's, failures stay with their request, nothing piles up."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch

from perank import Reranker
from perank.errors import BadInput
from perank.records import Passage
from perank.serving.embedding import Embedding, RankRequest
from perank.serving.engine import Busy, Engine
from perank.serving.limits import Limits
from perank.serving.metrics import Metrics
from support import tiny


def request(seed: int, n: int = 8, top_k: int | None = None) -> RankRequest:
    dice = random.Random(seed)
    texts = [" ".join(dice.sample(tiny.WORDS, 6)) for _ in range(n)]
    query = " ".join(dice.sample(tiny.WORDS, 3))
    return RankRequest(query=query, passages=tuple(Passage(str(i), t) for i, t in enumerate(texts)), top_k=top_k)


@asynccontextmanager
async def running(reranker: Reranker, **limits: Any) -> AsyncIterator[Engine]:
    engine = Engine(reranker, Limits(**limits))
    engine.start()
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


def test_requests_of_all_sizes_rank_together_as_each_ranks_alone(texts_reranker: Reranker) -> None:
    requests = [request(i, n=(0, 1, 2, 5, 6, 8, 23)[i % 7], top_k=(None, 1, 3)[i % 3]) for i in range(60)]

    async def ranked() -> list[Any]:
        async with running(texts_reranker, max_batch=16) as engine:
            rankings = await asyncio.gather(*map(engine.rank, requests))
            assert engine.waiting == 0
            return rankings

    for asked, ranking in zip(requests, asyncio.run(ranked()), strict=True):
        alone = texts_reranker.rank(asked.query, asked.passages, top_k=asked.top_k)
        assert ranking.order[: asked.top_k] == alone.order[: asked.top_k]
        assert ranking.candidates.passages == asked.passages


def test_a_request_that_fails_harms_none_of_its_batch(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    good, poison = [request(i) for i in range(6)], "sun sun sun"
    encode, advance = type(reranker.encoder).encode_passages, Reranker.advance

    def encoding(self: Any, texts: list[str]) -> torch.Tensor:
        if poison in texts:
            raise RuntimeError("out of memory")
        return encode(self, texts)

    def advancing(self: Reranker, queries: Any) -> None:
        if any(query.text == "breaks" for query in queries):
            raise RuntimeError("a bug")
        advance(self, queries)

    monkeypatch.setattr(type(reranker.encoder), "encode_passages", encoding)
    monkeypatch.setattr(Reranker, "advance", advancing)
    unlookable = RankRequest(query="rain", passages=(Passage("unknown", ""),), by_id=frozenset([0]))
    bad = [
        RankRequest(query="rain", passages=(Passage("0", "rain"), Passage("1", poison))),
        RankRequest(query="breaks", passages=request(3).passages),
        RankRequest(query="  ", passages=request(4).passages),
        unlookable,
    ]

    async def outcomes() -> list[Any]:
        async with running(reranker, batch_wait_ms=200.0) as engine:
            mixed = [*good[:3], *bad, *good[3:]]
            found = await asyncio.gather(*map(engine.rank, mixed), return_exceptions=True)
            assert engine.waiting == 0
            again = await engine.rank(good[0])
            return [*found, again]

    found = asyncio.run(outcomes())
    failed, ranked = found[3:7], [*found[:3], *found[7:]]
    assert [type(error) for error in failed] == [RuntimeError, RuntimeError, BadInput, BadInput]
    assert all(ranking.order for ranking in ranked)


def test_the_event_loop_is_free_while_the_model_works(
    texts_reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, release, entered = set(), threading.Event(), threading.Event()
    advance = Reranker.advance

    def blocking(self: Reranker, queries: Any) -> None:
        threads.add(threading.current_thread().name)
        entered.set()
        assert release.wait(30)
        advance(self, queries)

    monkeypatch.setattr(Reranker, "advance", blocking)

    async def ticks() -> int:
        async with running(texts_reranker) as engine:
            task = asyncio.ensure_future(engine.rank(request(0)))
            await asyncio.to_thread(entered.wait, 30)
            beats = [await asyncio.sleep(0) for _ in range(100)]
            assert not task.done()
            release.set()
            await task
            return len(beats)

    assert asyncio.run(ticks()) == 100
    assert threads == {"perank-engine"}


def test_beyond_the_bound_requests_are_told_to_come_back(texts_reranker: Reranker) -> None:
    async def refused() -> tuple[int, list[Any]]:
        async with running(texts_reranker, max_waiting=20) as engine:
            tasks = [asyncio.ensure_future(engine.rank(request(i))) for i in range(10)]
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert engine.waiting == 0
            late = await engine.rank(request(0, n=40))  # an idle server takes what is above the bound
            return len(late.order), found

    late, found = asyncio.run(refused())
    busy = [error for error in found if isinstance(error, Busy)]
    assert (late, len(busy)) == (40, 8)
    assert all(1 <= error.retry_after <= 60 for error in busy)


def test_requests_nobody_awaits_are_dropped_before_they_cost_anything(
    texts_reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    begin = Reranker.begin
    monkeypatch.setattr(Reranker, "begin", lambda *a, **k: begun.append(a[1].query.text) or begin(*a, **k))

    async def leave() -> None:
        async with running(texts_reranker, max_batch=1) as engine:
            tasks = [asyncio.ensure_future(engine.rank(request(i))) for i in range(20)]
            await asyncio.sleep(0)
            for task in tasks[:18]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(engine.stop)
            await asyncio.sleep(0)
            assert engine.waiting == 0

    asyncio.run(leave())
    assert len(begun) <= 3
    assert begun[-2:] == [request(18).query, request(19).query]


def test_stop_answers_what_was_accepted(texts_reranker: Reranker) -> None:
    async def drained() -> list[Any]:
        async with running(texts_reranker, max_batch=4) as engine:
            tasks = [asyncio.ensure_future(engine.rank(request(i))) for i in range(30)]
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(drained())) == 30


def test_the_cache_is_bounded_and_forgets_the_least_recently_used(texts_reranker: Reranker) -> None:
    calls: list[str] = []

    class Counting:
        width = texts_reranker.encoder.width

        def encode_passages(self, texts: list[str]) -> torch.Tensor:
            calls.extend(texts)
            return texts_reranker.encoder.encode_passages(texts)

    embedding = Embedding(Counting(), None, 3, Metrics())
    first = embedding.encode(["rain", "sea", "sun", "rain"])
    embedding.encode(["rain"])
    again = embedding.encode(["rain", "bread"])  # forgets sea
    assert calls == ["rain", "sea", "sun", "bread"]
    assert torch.equal(first["rain"], again["rain"]) and len(embedding) == 3
    embedding.encode(["sea"])
    assert calls[-1] == "sea"
    assert {*embedding.encode(["salt", "water", "flour", "yeast"])} == {"salt", "water", "flour", "yeast"}
    assert len(embedding) == 3
