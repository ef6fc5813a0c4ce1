"""One process at a time."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.files import file_lock, folder_made_once


def _work(folder: Path, number: int) -> None:
    with file_lock(folder / "deep" / "lock"):
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
            with file_lock(tmp_path / "lock"):
                raise KeyError
        except KeyError:
            pass


def test_who_does_not_wait_for_a_lock_is_told_that_it_is_taken(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock"):
        with (
            pytest.raises(BadInput, match="another process is writing") as caught,
            file_lock(tmp_path / "lock", wait=False),
        ):
            pass
        assert caught.value.path == tmp_path
    with file_lock(tmp_path / "lock", wait=False):
        pass


def _make(folder: Path, number: int) -> None:
    def make(draft: Path) -> None:
        time.sleep(0.05)
        (draft / "made").write_text(str(number))
        with (folder / "log").open("a") as log:
            log.write(str(number))

    folder_made_once(folder / "cache" / "model", make)


def test_a_folder_that_several_processes_want_is_made_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_make, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "cache" / "model" / "made").read_text() == (tmp_path / "log").read_text()
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {"model", ".model.lock"}


def test_a_folder_that_cannot_be_made_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        folder_made_once(tmp_path / "model", lambda draft: {}["weights"])
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
