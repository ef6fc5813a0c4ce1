"""Files that are whole or not there, and JSON that says everything once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.files import atomic_write, file_lock, json_lines, read_json, write_json


@pytest.mark.parametrize(
    ("text", "key"), [('{"a": 1, "a": 2}', "a"), ('{"x": [{"b": 1, "c": 2, "b": 1}]}', "b"), ('{"": 1, "": 1}', "")]
)
def test_a_key_given_twice_is_refused_at_any_depth(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(f'{{"a": 1, "b": {{"a": 2}}}}\n{text}\n')
    with pytest.raises(BadInput, match=f"the key '{key}' occurs twice") as caught:
        list(json_lines(path))
    assert (caught.value.path, caught.value.line) == (path, 2)
    path.write_text(text)
    with pytest.raises(BadInput, match=f"the key '{key}' occurs twice"):
        read_json(path)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    content = {"ü": [1, 2.5, None, True], "nested": {"a": "\n"}}
    write_json(tmp_path / "new" / "x.json", content)
    assert read_json(tmp_path / "new" / "x.json") == content


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write("half")
        raise ZeroDivisionError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for path in (tmp_path / "runs" / "results.csv", tmp_path / "runs" / "1" / "results.csv"):
        for write in (atomic_write, file_lock):
            with pytest.raises(BadInput, match="the folder can't be created") as refused, write(path):
                pass
            assert refused.value.path == path.parent


def test_a_full_disk_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="no space left"), atomic_write(tmp_path / "x.txt") as file:
        file.write("all of it")
    assert not list(tmp_path.iterdir())
