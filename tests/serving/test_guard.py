"""The guard in front of the application: a late server is not taken for a slow client."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

from perank.serving.guard import Guard
from perank.serving.limits import Limits
from perank.serving.metrics import Metrics

SCOPE = {"type": "http", "path": "/v1/rerank", "method": "POST", "headers": []}


def test_a_body_that_arrived_while_the_process_was_busy_is_in_time() -> None:
    engine: Any = SimpleNamespace(limits=Limits(max_body_seconds=0.1), metrics=Metrics(), check_room=lambda: None)
    bodies, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def guarded() -> None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        async def receive() -> Any:
            await arrived.wait()
            return {"type": "http.request", "body": b"{}", "more_body": False}

        def busy() -> None:
            time.sleep(0.2)
            loop.call_soon(arrived.set)  # as the event loop does for a socket with data

        loop.call_later(0.01, busy)
        await Guard(app, engine, keys=(), routes=())(SCOPE, receive, send)

    asyncio.run(guarded())
    assert (bodies, sent) == ([b"{}"], [])
