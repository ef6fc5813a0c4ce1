"""Clients that are slow or vanish, and SIGTERM: the others are served, and what was accepted is answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from perank import Reranker
from perank.serving.application import make_app
from perank.serving.limits import Limits
from support import tiny
from support.saved_models import save_tiny_model
from support.served import serving

BODY = {"query": "which otter holds hands", "documents": [" ".join(tiny.WORDS[i : i + 5]) for i in range(12)]}


def raw(body: bytes, *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = b"POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n" % size + body


def connected(client: httpx.Client) -> socket.socket:
    address = urlsplit(str(client.base_url))
    return socket.create_connection((address.hostname, address.port), timeout=30)


def received(connection: socket.socket, end: bytes) -> bytes:
    """What arrives until `end` has, or the server closes: head and body may come apart."""
    found = b""
    while end not in found and (part := connection.recv(65536)):
        found += part
    return found


def test_a_client_that_never_finishes_its_request_is_cut_off(client: httpx.Client) -> None:
    with connected(client) as slow:
        slow.sendall(raw(b'{"query": "a', length=500))
        assert client.post("/v1/rerank", json=BODY).status_code == 200  # meanwhile
        answer = received(slow, b"not complete after 1 s")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"not complete after 1 s" in answer


def test_a_request_may_arrive_in_pieces(client: httpx.Client) -> None:
    content = raw(json.dumps(BODY).encode())
    with connected(client) as slow:
        for start in range(0, len(content), 97):
            slow.sendall(content[start : start + 97])
            time.sleep(0.01)
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [30, 150, 10_000])
def test_dropped_connections_leave_nothing_behind(client: httpx.Client, sent: int) -> None:
    content = raw(json.dumps(BODY).encode())
    for _ in range(20):
        with connected(client) as dropping:
            dropping.sendall(content[:sent])
    free = 0
    for _ in range(100):
        time.sleep(0.1)
        free = free + 1 if client.get("/health").json()["waiting_documents"] == 0 else 0
        if free == 5:
            break
    assert free == 5
    assert client.post("/v1/rerank", json=BODY).status_code == 200


@pytest.mark.parametrize(
    "content", [b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"POST /v1/rerank HTTP/9.9\r\n\r\n", b"\0" * 70_000]
)
def test_what_is_not_http_is_refused(client: httpx.Client, content: bytes) -> None:
    with connected(client) as strange:
        strange.sendall(content)
        strange.shutdown(socket.SHUT_WR)
        answer = strange.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert client.get("/health").status_code == 200


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as users start it, and its address."""
    model = save_tiny_model(tmp_path_factory.mktemp("saved"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "perank.serving", "--model", str(model), "--dtype", "float32", "--port", str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert started.poll() is None, started.stderr.read() if started.stderr else ""
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        yield started, address
    finally:
        started.kill()
        started.communicate()


def test_sigterm_under_load_answers_every_accepted_request(process: tuple[subprocess.Popen[str], str]) -> None:
    server, address = process
    body = {"query": BODY["query"], "documents": BODY["documents"] * 2}

    async def load() -> list[object]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
            tasks = [asyncio.create_task(client.post("/v1/rerank", json=body)) for _ in range(100)]
            while (await client.get("/health")).json()["waiting_documents"] < 90 * 24 and not tasks[0].done():
                await asyncio.sleep(0.01)
            server.send_signal(signal.SIGTERM)
            return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(load())
    assert {answer.status_code for answer in found if isinstance(answer, httpx.Response)} == {200}
    cut_off = httpx.ConnectError | httpx.ReadError | httpx.RemoteProtocolError  # never accepted
    assert all(isinstance(answer, httpx.Response | cut_off) for answer in found)
    answered = sum(isinstance(answer, httpx.Response) for answer in found)
    assert server.wait(60) in (0, -signal.SIGTERM)
    assert server.stderr is not None
    said = server.stderr.read()
    assert "Traceback" not in said
    accepted = int(said.rpartition("answered ")[2].split()[0])
    assert answered == accepted > 50


def statuses(address: str, content: bytes) -> list[int]:
    """Of ten requests at once."""
    headers = {"content-type": "application/json"}

    async def answers() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            posts = [client.post("/v1/rerank", content=content, headers=headers) for _ in range(10)]
            return await asyncio.gather(*posts)

    return [answer.status_code for answer in asyncio.run(answers())]


def test_a_refused_client_gets_its_answer_and_no_reset(reranker: Reranker) -> None:
    with serving(make_app(reranker, "tiny", keys=["key"])) as address:
        assert statuses(address, b'{"query": "' + 6_000_000 * b"x" + b'"}') == 10 * [401]


@pytest.mark.parametrize("size", [60_000, 12_000_000])
def test_a_client_that_sends_too_much_gets_its_answer_and_no_reset(reranker: Reranker, size: int) -> None:
    with serving(make_app(reranker, "tiny", limits=Limits(max_body_bytes=50_000))) as address:
        assert statuses(address, size * b"x") == 10 * [413]


def test_a_client_that_asks_before_it_sends_is_refused_at_once(client: httpx.Client) -> None:
    with connected(client) as asking:
        head = raw(b"", length=40_000_000).replace(b"host", b"expect: 100-continue\r\nhost")
        asking.sendall(head)
        assert received(asking, b"more than 50000 bytes").startswith(b"HTTP/1.1 413 ")
