"""The server under load: bursts and a minute of mixed sizes, texts and ids, against a server without batching.

Servers run as processes of their own (`python -m perank.serving`), one at a time; the load comes from this process.
Documents are drawn from a pool of random words. A sample of the rankings is compared with `Reranker`'s. Rows are added
to the CSV file `--into`, if there is one.

    OMP_NUM_THREADS=1 python benchmarks/serving.py --requests 1000 --mixed 10000 --into experiments/serving/load.csv
    python benchmarks/serving.py --tiny --model <folder>    # does it run?
"""

from __future__ import annotations

import argparse
import asyncio
import csv
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
from perank.retrieval.store import EmbeddingStore

CLIENTS = 64  # a client looks through all its connections for each request
SIZES = (1, 5, 10, 20, 20, 50, 100)  # documents of mixed requests
# The load is more than two cores can do in the minute that is the default; a client that is as busy sends slowly.
PATIENCE = ("--max-seconds", "3600", "--max-body-seconds", "3600")
UNBOUNDED = ("--max-waiting", "1000000")  # for bursts, of which every request is ranked; mixed loads meet 429


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: a query and ids of the pool."""

    query: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests sent evenly over so many seconds, with ids or texts."""

    name: str
    asks: Sequence[Ask]
    ids: bool
    over: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What a load met: statuses, seconds of each success, orders by request, and wall seconds."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    orders: dict[int, list[int]] = field(default_factory=dict)
    documents: int = 0
    wall: float = 0.0

    def row(self, load: Load) -> dict[str, Any]:
        """The figures; `documents_s` counts those of ranked requests only."""
        p50, p95, p99 = np.percentile(self.seconds, [50, 95, 99]) if self.seconds else (0.0, 0.0, 0.0)
        said = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items(), key=str))
        rates = {"ranked_s": len(self.seconds) / self.wall, "documents_s": self.documents / self.wall}
        latencies = {"p50": p50, "p95": p95, "p99": p99}
        numbers = {name: round(float(number), 2) for name, number in {**rates, **latencies}.items()}
        return {"load": load.name, "by": "ids" if load.ids else "texts", **numbers, "responses": said}


class Pool:
    """Passages of random words of the encoder's vocabulary, and requests drawn from them."""

    def __init__(self, reranker: Reranker, size: int, sample: int) -> None:
        dice = random.Random(0)
        vocabulary = sorted(word for word in reranker.encoder.tokenizer.get_vocab() if word.isalpha() and len(word) > 2)
        self.words, self.dice, self.sample = vocabulary, dice, sample
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


async def send(address: str, load: Load, pool: Pool) -> Outcome:
    """Send the requests of a load.

    Each has a connection of its own: httpx's pool may close an idle connection that it has just given to a request,
    which is then a ReadError (https://github.com/encode/httpcore/issues/1110).
    """
    found, asks = Outcome(), load.asks
    limits, began = httpx.Limits(max_connections=None, max_keepalive_connections=0), time.perf_counter()

    async def one(client: httpx.AsyncClient, number: int, ask: Ask) -> None:
        await asyncio.sleep(load.over * number / len(asks))
        documents = [{"id": id} for id in ask.ids] if load.ids else [pool.texts[id] for id in ask.ids]
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


def peak(process: subprocess.Popen[bytes]) -> int:
    """The most memory that the process has had, in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def cpu(process: subprocess.Popen[bytes]) -> float:
    """Seconds of a processor that the process has used."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def equal(found: Outcome, load: Load, pool: Pool, reranker: Reranker, store: EmbeddingStore) -> tuple[int, int]:
    """How many of a sample of rankings are `Reranker`'s, and the size of the sample."""
    chosen = sorted(found.orders)[:: max(1, len(found.orders) // pool.sample)][: pool.sample]
    same = 0
    for number in chosen:
        query, ids = load.asks[number].query, load.asks[number].ids
        if load.ids:
            ranking = reranker.rank(query, passage_embeddings=store.get(ids))
        else:
            ranking = reranker.rank(query, [pool.texts[id] for id in ids])
        same += list(ranking.order) == found.orders[number]
    return same, len(chosen)


def parts(options: argparse.Namespace, pool: Pool) -> Iterator[tuple[Sequence[str], list[Load]]]:
    """A server's options and the loads that it gets: without batches, with them, and with the default queue."""
    burst = pool.asks([options.documents] * options.requests)
    mixed = pool.asks([SIZES[i % len(SIZES)] for i in range(options.mixed)])
    few, over, both = burst[: max(1, options.requests // 5)], options.over, (False, True)
    if burst:
        one_by_one = [Load(f"{len(few)} at once, one by one", few, ids) for ids in both]
        yield (*UNBOUNDED, "--max-batch", "1", "--batch-wait-ms", "0"), one_by_one
        yield UNBOUNDED, [Load(f"{len(asks)} at once", asks, ids) for asks in (few, burst) for ids in both]
    name = f"{len(mixed)} mixed over {over:g} s"
    yield (), [Load(name, mixed, ids, over) for _ in range(options.rounds) for ids in both]


def measure(options: argparse.Namespace, reranker: Reranker, folder: Path) -> Iterator[dict[str, Any]]:
    """Run all loads and yield their rows."""
    pool = Pool(reranker, options.pool, options.sample)
    store = encode_into(folder, pool.texts, reranker.encoder, StoreOptions(progress=False))
    for more, loads in parts(options, pool):
        with server(options, "--store", str(folder), *more) as (address, process):
            idle = peak(process)
            for load in loads:
                before, found = cpu(process), asyncio.run(send(address, load, pool))
                per_cpu_s = round(len(found.seconds) / (cpu(process) - before), 2)  # other processes don't change it
                same, compared = equal(found, load, pool, reranker, store)
                rest = {"ranked_cpu_s": per_cpu_s, "idle_mib": idle, "peak_mib": peak(process)}
                yield {"model": options.name, **found.row(load), "equal": f"{same} of {compared}", **rest}


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a CSV file, which begins with the names of the columns."""
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="box")
    parser.add_argument("--name", help="of the model in the rows (default: --model)")
    parser.add_argument("--into", type=Path, help="CSV file for the rows")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--requests", type=int, default=1000, help="of each burst; 0: no bursts")
    parser.add_argument("--documents", type=int, default=20, help="per request of a burst")
    parser.add_argument("--mixed", type=int, default=1000, help="requests of mixed sizes")
    parser.add_argument("--over", type=float, default=60.0, help="seconds in which the mixed requests are sent")
    parser.add_argument("--rounds", type=int, default=1, help="of mixed loads on one server: does its memory grow?")
    parser.add_argument("--pool", type=int, default=4000, help="passages")
    parser.add_argument("--sample", type=int, default=50, help="rankings that are compared with Reranker's")
    parser.add_argument("--tiny", action="store_true", help="few requests")
    options = parser.parse_args()
    if options.tiny:
        options.requests, options.mixed, options.over, options.pool, options.sample = 30, 30, 0.5, 100, 10
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    reranker = Reranker.from_pretrained(None if options.model == "box" else options.model, dtype=options.dtype)
    options.name = options.name or options.model
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(options, reranker, Path(folder) / "store"):
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            if options.into is not None:
                add_row(options.into, row)


if __name__ == "__main__":
    exits_cleanly(main)()
