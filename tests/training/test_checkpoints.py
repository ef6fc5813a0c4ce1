"""Checkpoint files: whole or not there, checked when they are read, and the newest one found."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from perank.errors import BadInput
from perank.training.checkpoints import AtomicCheckpointIO, newest_checkpoint, read_checkpoint
from support import toy

pytestmark = toy.QUIET


def _raise(error: BaseException) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


def test_the_newest_readable_checkpoint_is_the_one_with_most_steps_whatever_its_name(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-000012.ckpt"
    (tmp_path / "checkpoints" / "step-000012.ckpt").rename(tmp_path / "checkpoints" / "last.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "last.ckpt"
    torn = tmp_path / "checkpoints" / "last.ckpt"
    torn.write_bytes(torn.read_bytes()[:-200])
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-000010.ckpt"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/perank-was-here",)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", "code", {"state_dict": {}}, [1, 2]], ids=str)
def test_a_file_that_is_no_checkpoint_is_refused_and_its_code_not_run(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "step-000001.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(
        {"state_dict": Evil()} if content == "code" else content, path
    )
    with pytest.raises(BadInput) as caught:
        AtomicCheckpointIO().load_checkpoint(path)
    assert caught.value.path == path
    assert not Path("/tmp/perank-was-here").exists()


def test_a_flipped_bit_is_noticed_which_torch_would_not(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "step-000005.ckpt"
    content = read_checkpoint(shutil.copy(whole / "checkpoints" / path.name, path))
    weights = content["state_dict"]["model.projector.2.weight"].numpy().tobytes()
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(weights) + 5] ^= 1
    path.write_bytes(damaged)
    assert torch.load(path, weights_only=True)["global_step"] == 5
    with pytest.raises(BadInput, match="has a wrong checksum"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["missing", "another type", "empty"])
@pytest.mark.parametrize("key", ["global_step", "loops", "optimizer_states", "lr_schedulers", "random_states"])
def test_a_checkpoint_that_lacks_a_part_is_refused_by_its_name(
    whole: Path, tmp_path: Path, key: str, kind: str
) -> None:
    content = read_checkpoint(whole / "checkpoints" / "step-000005.ckpt")
    was = content.pop(key)
    if kind != "missing":
        content[key] = "nine" if kind == "another type" or not isinstance(was, list) else []
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(BadInput, match=f"of the wrong type: {key}"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_full_disk_is_one_clear_error_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step-000001.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(3)}, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", _raise(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(BadInput, match="no space left on the disk for this checkpoint"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_torchs_own_words_for_a_full_disk_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(checkpoint: Any, file: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(BadInput, match="no space left"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "step-000001.ckpt")
    assert not list(tmp_path.iterdir())


def test_other_errors_of_writing_are_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", _raise(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "step-000001.ckpt")
