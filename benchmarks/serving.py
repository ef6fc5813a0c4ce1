"""The server under load: bursts and a minute of mixed sizes, texts and ids, against a server without batching.

Servers run as processes of their own (`python -m perank.serving`), one at a time; the load comes from this process.
Documents are drawn from a pool of random words. A sample of the rankings is compared with `Reranker`'s.

    OMP_NUM_THREADS=1 python benchmarks/serving.py --requests 1000 --mixed 10000
    python benchmarks/serving.py --tiny --model <folder>    # does it run?
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from perank import Reranker
from perank.errors import exits_cleanly
from perank.retrieval.encoding import StoreOptions, encode_into

CLIENTS = 64  # a client looks through all its connections for each request
SIZES = (1, 5, 10, 20, 20, 50, 100)  # documents of mixed requests
PATIENCE = ("--max-seconds", "3600")  # the load is more than two cores can do in the minute that is the default
UNBOUNDED = ("--max-waiting", "1000000")  # for bursts, of which every request is ranked; mixed loads meet 429


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: a query and ids of the pool."""

    query: str
    ids: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What a load met: statuses, seconds of each success, orders by request, and the wall time."""

    name: str
    statuses: Counter[int | str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    orders: dict[int, list[int]] = field(default_factory=dict)
    documents: int = 0
    wall: float = 0.0

    def line(self) -> str:
        """One row of the table."""
        p50, p95, p99 = np.percentile(self.seconds, [50, 95, 99]) if self.seconds else (0.0, 0.0, 0.0)
        said = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items(), key=str))
        rate, documents = len(self.seconds) / self.wall, self.documents / self.wall
        return f"{self.name:34} {rate:7.1f} {documents:8.0f}  {p50:7.2f} {p95:7.2f} {p99:7.2f}  {said}"


class Pool:
    """Passages of random words of the encoder's vocabulary, and requests drawn from them."""

    def __init__(self, reranker: Reranker, size: int) -> None:
        dice = random.Random(0)
        vocabulary = sorted(word for word in reranker.encoder.tokenizer.get_vocab() if word.isalpha() and len(word) > 2)
        self.words, self.dice = vocabulary, dice
        self.texts = {f"p{i}": " ".join(dice.choices(vocabulary, k=dice.randint(10, 40))) for i in range(size)}

    def asks(self, sizes: Sequence[int]) -> list[Ask]:
        """One request per size."""
        ids = list(self.texts)
        return [Ask(" ".join(self.dice.choices(self.words, k=4)), tuple(self.dice.sample(ids, n))) for n in sizes]


@contextmanager
def server(options: argparse.Namespace, *more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server process and its address; it is told to end by SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "perank.serving", "--model", options.model, "--port", str(port)]
    process = subprocess.Popen([*command, "--dtype", options.dtype, "--log-level", "warning", *PATIENCE, *more])
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.ConnectError:
                if process.poll() is not None:
                    raise SystemExit("the server didn't start") from None
                time.sleep(0.1)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(600)


async def load(name: str, address: str, asks: Sequence[Ask], pool: Pool, **how: float | bool) -> Outcome:
    """Send requests: all at once, or evenly over `over` seconds; `ids` alone, or texts.

    Each has a connection of its own: httpx's pool may close an idle connection that it has just given to a request,
    which is then a ReadError (https://github.com/encode/httpcore/issues/1110).
    """
    found, over, ids = Outcome(name), float(how.get("over", 0.0)), bool(how.get("ids"))
    limits, began = httpx.Limits(max_connections=None, max_keepalive_connections=0), time.perf_counter()

    async def one(client: httpx.AsyncClient, number: int, ask: Ask) -> None:
        await asyncio.sleep(over * number / len(asks))
        documents = [{"id": id} for id in ask.ids] if ids else [pool.texts[id] for id in ask.ids]
        body, start = {"query": ask.query, "documents": documents, "return_documents": False}, time.perf_counter()
        try:
            answer = await client.post("/v1/rerank", json=body)
        except httpx.HTTPError as error:
            found.statuses[type(error).__name__] += 1
            return
        found.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            found.seconds.append(time.perf_counter() - start)
            found.documents += len(ask.ids)
            found.orders[number] = [result["index"] for result in answer.json()["results"]]

    options: dict[str, Any] = {"base_url": address, "timeout": 3600, "limits": limits, "verify": False}
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(httpx.AsyncClient(**options)) for _ in range(CLIENTS)]
        await asyncio.gather(*(one(clients[number % CLIENTS], number, ask) for number, ask in enumerate(asks)))
        found.wall = time.perf_counter() - began
    return found


def memory(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """The process' memory in MiB, now and at most."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"now": kib["VmRSS"] // 1024, "most": kib["VmHWM"] // 1024}


def check(found: Outcome, asks: Sequence[Ask], pool: Pool, reranker: Reranker, sample: int) -> str:
    """How many of a sample of rankings are `Reranker`'s."""
    chosen = sorted(found.orders)[:: max(1, len(found.orders) // sample)][:sample]
    same = 0
    for number in chosen:
        passages = [pool.texts[id] for id in asks[number].ids]
        same += list(reranker.rank(asks[number].query, passages).order) == found.orders[number]
    return f"{found.name}: {same} of {len(chosen)} rankings equal Reranker's"


def measure(options: argparse.Namespace, reranker: Reranker, store: Path) -> None:
    """Run all loads and print the table."""
    pool = Pool(reranker, options.pool)
    encode_into(store, pool.texts, reranker.encoder, StoreOptions(progress=False))
    burst = pool.asks([options.documents] * options.requests)
    mixed = pool.asks([SIZES[i % len(SIZES)] for i in range(options.mixed)])
    few, checks = burst[: max(1, options.requests // 5)], []
    print(f"{'load':34} {'per s':>7} {'docs/s':>8}  {'p50 s':>7} {'p95 s':>7} {'p99 s':>7}  responses", flush=True)
    more = ("--store", str(store))
    with server(options, *more, *UNBOUNDED, "--max-batch", "1", "--batch-wait-ms", "0") as (address, _):
        for ids in (False, True):
            name = f"{len(few)} at once, {'ids' if ids else 'texts'}, one by one"
            print(asyncio.run(load(name, address, few, pool, ids=ids)).line(), flush=True)
    with server(options, *more, *UNBOUNDED) as (address, process):
        idle = memory(process)
        for ids in (False, True):
            name = f"{len(few)} at once, {'ids' if ids else 'texts'}"
            print(asyncio.run(load(name, address, few, pool, ids=ids)).line(), flush=True)
        for ids in (False, True):
            name = f"{len(burst)} at once, {'ids' if ids else 'texts'}"
            found = asyncio.run(load(name, address, burst, pool, ids=ids))
            print(found.line(), flush=True)
            if not ids:
                checks.append(check(found, burst, pool, reranker, options.sample))
        after = memory(process)
    with server(options, *more) as (address, process):
        for ids in (False, True):
            name = f"{len(mixed)} mixed over {options.over:g} s, {'ids' if ids else 'texts'}"
            found = asyncio.run(load(name, address, mixed, pool, ids=ids, over=options.over))
            print(found.line(), flush=True)
            if not ids:
                checks.append(check(found, mixed, pool, reranker, options.sample))
        end = memory(process)
    print(f"server memory, MiB: {idle['now']} idle, {after['most']} at most in bursts, {end['most']} in mixed loads")
    print("\n".join(checks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="box")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--requests", type=int, default=1000, help="of each burst")
    parser.add_argument("--documents", type=int, default=20, help="per request of a burst")
    parser.add_argument("--mixed", type=int, default=1000, help="requests of mixed sizes")
    parser.add_argument("--over", type=float, default=60.0, help="seconds in which the mixed requests are sent")
    parser.add_argument("--pool", type=int, default=4000, help="passages")
    parser.add_argument("--sample", type=int, default=50, help="rankings that are compared with Reranker's")
    parser.add_argument("--tiny", action="store_true", help="few requests")
    options = parser.parse_args()
    if options.tiny:
        options.requests, options.mixed, options.over, options.pool, options.sample = 30, 30, 0.5, 100, 10
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    reranker = Reranker.from_pretrained(None if options.model == "box" else options.model, dtype=options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        measure(options, reranker, Path(folder) / "store")


if __name__ == "__main__":
    exits_cleanly(main)()
