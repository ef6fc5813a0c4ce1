"""What offline W&B runs hold, read from their own files: `python experiments/board/holds.py multirun/table4-embedded`.

Prints each run's name, group and tags, then what all of them have: settings, logged series, tables, final figures.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Held:
    """One run's record: identity, settings, series with their lengths, tables with their rows, summary keys."""

    folder: Path
    identity: str = ""
    config: set[str] = field(default_factory=set)
    series: Counter[str] = field(default_factory=Counter)
    tables: dict[str, int] = field(default_factory=dict)
    summary: set[str] = field(default_factory=set)
    ended: str = "not ended"


def main() -> None:
    """Read and print."""
    folders = sorted(path for root in sys.argv[1:] for path in Path(root).rglob("offline-run-*") if path.is_dir())
    if not folders:
        raise SystemExit("no offline-run-* below " + " ".join(sys.argv[1:]))
    runs = [held(folder) for folder in folders]
    for run in runs:
        print(f"{run.identity}; {len(run.config)} settings; {run.ended}")
    print("\nseries (points in the first run):")
    for name, points in sorted(runs[0].series.items()):
        print(f"  {name:32} {points}")
    print("tables (rows in the first run):")
    for name, rows in runs[0].tables.items():
        print(f"  {name:32} {rows}")
    print("final figures: " + ", ".join(sorted(key for key in runs[0].summary if key.startswith("final/"))))


def held(folder: Path) -> Held:
    """Go through a run's records."""
    from wandb.proto import wandb_internal_pb2

    run = Held(folder)
    for data in records(next(folder.glob("run-*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        _take(run, record)
    for path in sorted(folder.glob("files/media/table/*.table.json")):
        run.tables[path.name.rpartition("_")[0].rpartition("_")[0]] = len(json.loads(path.read_text())["data"])
    return run


def records(log: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log behind W&B's header of 7 bytes: chunks of checksum, length and type in blocks."""
    block, at, parts = 1 << 15, 7, bytearray()
    while at + 7 <= len(log):
        if block - at % block < 7:  # too little room for a chunk's header: padding
            at += block - at % block
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        parts += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or last
            yield bytes(parts)
            parts.clear()


def _take(run: Held, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        tags = ", ".join(record.run.tags)
        run.identity = f"{record.run.display_name} | group {record.run.run_group} | {record.run.job_type} | {tags}"
        run.config |= {_key(item) for item in record.run.config.update}
    elif kind == "config":
        run.config |= {_key(item) for item in record.config.update}
    elif kind == "history":
        run.series.update(_key(item) for item in record.history.item if not _of_a_table(_key(item)))
    elif kind == "summary":
        run.summary |= {_key(item) for item in record.summary.update}
    elif kind == "exit":
        run.ended = f"ended with code {record.exit.exit_code}"


def _of_a_table(key: str) -> bool:
    return key.startswith(("_", "results.", "example rankings."))


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


if __name__ == "__main__":
    main()
