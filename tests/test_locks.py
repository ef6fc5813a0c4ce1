"""One process at a time."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

from perank.files import waiting


def _work(folder: Path, number: int) -> None:
    with waiting(folder / "deep" / "lock"):
        seen = (folder / "log").read_text() if (folder / "log").exists() else ""
        time.sleep(0.05)
        (folder / "log").write_text(f"{seen}{number}")  # lost where another wrote meanwhile


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_work, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted((tmp_path / "log").read_text()) == list("0123")


def test_a_lock_is_let_go_of_when_something_goes_wrong(tmp_path: Path) -> None:
    for _ in range(2):
        try:
            with waiting(tmp_path / "lock"):
                raise KeyError
        except KeyError:
            pass
