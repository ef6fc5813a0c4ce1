"""The benchmark of the server on a tiny model: every load is answered, with the reranker's rankings."""

from __future__ import annotations

import asyncio
import csv
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from support.saved_models import save_tiny_model
from support.scripts import BENCHMARKS, benchmark

SCRIPT = BENCHMARKS / "serving.py"


def test_every_load_is_answered_with_the_rerankers_rankings(tmp_path: Path) -> None:
    into, model = tmp_path / "load.csv", str(save_tiny_model(tmp_path))
    command = [sys.executable, str(SCRIPT), "--tiny", "--model", model, "--into", str(into)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    with into.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["responses"] for row in rows] == ["6 x 200"] * 4 + ["30 x 200"] * 4
    assert [row["equal"] for row in rows] == ["6 of 6"] * 4 + ["10 of 10"] * 4
    assert [row["by"] for row in rows] == ["texts", "ids"] * 4
    assert all(100 < int(row["idle_mib"]) <= int(row["peak_mib"]) for row in rows)


def test_no_request_of_a_load_is_sent_on_a_used_connection() -> None:
    serving = benchmark("serving")
    connections, answered = 0, b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"results": []}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
                writer.write(answered)
        writer.close()

    async def loaded() -> object:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            asks = [serving.Ask("query", ("p0",))] * (3 * serving.CLIENTS)
            return await serving.send(
                address, serving.Load("", asks, False, over=0.3), SimpleNamespace(texts={"p0": "text"})
            )

    assert asyncio.run(loaded()).statuses == {200: 3 * serving.CLIENTS}
    assert connections == 3 * serving.CLIENTS
