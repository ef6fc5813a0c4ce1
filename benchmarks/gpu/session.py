"""What the scripts in this folder share: options, a time budget, timing, and rows of results.csv.

Rows are written after every measurement, so whatever ends a script leaves what it has measured.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

import perank
from perank.evaluation.result import device_name
from perank.ranking.decoder import Clock
from perank.reporting.rows import ResultRow, write_results_csv

sys.path.append(str(Path(__file__).resolve().parents[1]))
from limits import Limits

Case = TypeVar("Case")

_GRACE = 20  # seconds after the budget until a measurement is interrupted


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every script has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--budget", type=float, default=540.0, help="seconds after which nothing new is measured")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--into", type=Path, default=Path("results.csv"), help="the CSV file that is written")
    made.add_argument("--smoke", action="store_true", help="tiny sizes, to see on a CPU that it runs")
    return made


class Session:
    """One script's run, a context manager; `columns` are those of `ResultRow` that all of its rows share."""

    def __init__(self, options: argparse.Namespace, **columns: Any) -> None:
        self.smoke, self.budget, self.into = options.smoke, options.budget, options.into
        self.device = torch.device(options.device)
        self.columns = {"device": device_name(options.device), "version": perank.__version__, "seed": 0, **columns}
        self.rows: list[ResultRow] = []
        self.began = time.perf_counter()

    def __enter__(self) -> Self:
        torch.manual_seed(0)
        signal.signal(signal.SIGALRM, _interrupt)
        signal.alarm(int(self.budget + _GRACE))
        return self

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)
        self.add("script", "seconds", self.spent)

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    @cached_property
    def limits(self) -> Limits:
        """The device's bandwidth and peak, measured now."""
        found = Limits.measured(self.device, torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        self.add("limit", "bytes_per_second", found.bandwidth)
        self.add("limit", "flops_per_second", found.peak)
        return found

    def within(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Yield cases while the budget lasts, and say which ones were left out."""
        for case in cases:
            if self.spent > self.budget:
                self.skip(str(case), f"the budget of {self.budget:.0f} s is spent")
            else:
                yield case

    def skip(self, what: str, reason: str) -> None:
        """Say what is not measured, and why."""
        print(f"skipped: {what}: {reason}", flush=True)

    def add(self, system: str, metric: str, value: float, **columns: Any) -> None:
        """Record a measurement, print it and write the file."""
        row = ResultRow(system=system, metric=metric, value=float(value), **{**self.columns, **columns})
        self.rows.append(row)
        write_results_csv(self.into, self.rows)
        print(f"{self.spent:6.1f} s  {system}, {row.variant}: {metric} {value:.6g}", flush=True)

    def seconds(self, function: Callable[[], object], repeats: int = 20, warm: int = 4) -> float:
        """Median seconds of a call, the device's work included; fewer repeats when the budget is spent."""
        for _ in range(1 if self.smoke else warm):
            function()
        clock, taken = Clock(self.device), []
        while len(taken) < (2 if self.smoke else repeats) and not (taken and self.spent > self.budget):
            function()
            taken.append(clock.lap())
        return statistics.median(taken)


def _interrupt(*_: object) -> None:
    raise SystemExit("the budget is spent in the middle of a measurement; what came before it is written")
