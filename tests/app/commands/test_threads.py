"""Threads by idle cores, unless the environment says how many."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from perank.app.commands.processes import idle_cores, share_cores


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A quiet machine of eight cores, without settings; how many threads torch is asked for."""
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # so that what is set in the test is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.2, 9.0, 9.0))
    asked = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked[-1])
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    yield asked


@pytest.mark.parametrize(
    ("load", "processes", "expected"), [(0.2, 1, 8), (0.9, 1, 7), (7.4, 1, 1), (30.0, 1, 1), (0.2, 3, 2), (6.0, 4, 1)]
)
def test_a_process_gets_its_share_of_the_idle_cores(
    monkeypatch: pytest.MonkeyPatch, load: float, processes: int, expected: int
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert idle_cores(processes) == expected


def test_torch_and_tokenizers_share_the_cores(monkeypatch: pytest.MonkeyPatch, threads: list[int]) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (7.0, 0.0, 0.0))
    share_cores()
    assert threads[1:] == [1]
    assert os.environ["RAYON_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ


def test_more_threads_than_torch_had_are_never_asked_for(threads: list[int]) -> None:
    threads[:] = [3]
    share_cores()
    assert threads == [3, 3]


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("rayon", [None, "5"])
def test_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, threads: list[int], on_cpu: bool, rayon: str | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    if rayon:
        monkeypatch.setenv("RAYON_NUM_THREADS", rayon)
    share_cores(on_cpu=on_cpu)
    assert threads == [8]
    assert os.environ["RAYON_NUM_THREADS"] == (rayon or "2")


def test_tokenizers_feed_a_gpu_from_all_cores(threads: list[int]) -> None:
    share_cores(on_cpu=False)
    assert threads == [8]
    assert "RAYON_NUM_THREADS" not in os.environ
