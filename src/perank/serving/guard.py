"""ASGI middleware in front of the application: API keys, sizes and times of bodies, a bound on bytes in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from perank.serving.engine import Busy, Engine

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Refusal(Exception):
    """A response from 400 before the application has seen the request; `unread`: its body may not have been read."""

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, unread: bool = True
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers, self.unread = status, message, headers or {}, unread


class Guard:
    """Reads each body to its end before the application is called; one that is too large or slow is refused."""

    def __init__(self, app: App, engine: Engine, keys: Collection[str], routes: Collection[str]) -> None:
        self.app, self.engine, self.limits, self.routes = app, engine, engine.limits, frozenset(routes)
        self.keys = frozenset(map(_digest, keys))
        self.bytes = 0  # of all bodies in memory

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, route = time.perf_counter(), scope["path"] if scope["path"] in self.routes else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.engine.metrics.answered(route, message["status"], time.perf_counter() - began)
            await send(message)

        body = bytearray()
        try:
            complete = await self._checked(scope, receive, body)
            if complete:
                await self.app(scope, _replay(bytes(body), receive), counted)
        except Refusal as refusal:
            if refusal.unread and not _awaits_permission(scope):
                await self._discard(receive)
            await _refuse(refusal, counted)
        finally:
            self.bytes -= len(body)

    async def _checked(self, scope: Message, receive: Receive, body: bytearray) -> bool:
        """Read the body into `body`; False if the client has gone. Raises `Refusal`."""
        headers = dict(scope["headers"])
        if scope["path"].startswith(("/v1/", "/v2/")):
            self._check_key(headers.get(b"authorization", b""))
        if scope["method"] != "POST":
            return True
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limits.max_body_bytes:
            raise self._too_large()
        self._check_room()
        for seconds in (self.limits.max_body_seconds, 0.0):  # what has arrived counts, if this process is what is late
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await self._read(receive, body)
        problem = f"the request was not complete after {self.limits.max_body_seconds:g} s"
        raise Refusal(408, problem, unread=False)  # waiting for more of it would be in vain

    async def _read(self, receive: Receive, body: bytearray) -> bool:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            chunk = message.get("body", b"")
            self.bytes += len(chunk)
            body += chunk
            unread = message.get("more_body", False)
            if len(body) > self.limits.max_body_bytes:
                raise self._too_large(unread=unread)
            if self.bytes > self.limits.max_waiting_bytes:
                problem = "the server is busy: too many bytes are waiting"
                raise Refusal(429, problem, {"retry-after": "1"}, unread=unread)
            if not unread:
                return True

    async def _discard(self, receive: Receive) -> None:
        """Read a refused body to its end, within the time limit: a connection closed before is reset at the client."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.max_body_seconds):
                while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                    pass

    def _check_room(self) -> None:
        try:
            self.engine.check_room()
        except Busy as busy:
            raise Refusal(429, str(busy), {"retry-after": str(busy.retry_after)}) from busy

    def _check_key(self, header: bytes) -> None:
        scheme, _, key = header.decode("latin-1").partition(" ")
        if self.keys and not (scheme.lower() == "bearer" and _digest(key.strip()) in self.keys):
            remedy = "send the header 'Authorization: Bearer <key>'"
            raise Refusal(401, f"a valid API key is needed ({remedy})", {"www-authenticate": "Bearer"})

    def _too_large(self, *, unread: bool = True) -> Refusal:
        return Refusal(413, f"the request has more than {self.limits.max_body_bytes} bytes", unread=unread)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", errors="replace")).digest()  # comparing digests leaks no prefix


def _awaits_permission(scope: Message) -> bool:
    """Whether the client sends its body only when asked for it, as `receive` would."""
    return dict(scope["headers"]).get(b"expect", b"").lower() == b"100-continue"


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what follows it."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _refuse(refusal: Refusal, send: Send) -> None:
    content = json.dumps({"message": refusal.message, "detail": refusal.message}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    pairs = [(name.encode(), value.encode()) for name, value in {**headers, **refusal.headers}.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
