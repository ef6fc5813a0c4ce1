"""Any command line in this process, as its entry point would run it, and how it ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from perank.sources.trec import write_run
from support import toy
from support.command_lines import good_line
from support.saved_models import save_tiny_model

MODULES = {"serve": "perank.serving.command", "perank": "perank.app.commands.console"}
ELSEWHERE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "http_proxy": "http://127.0.0.1:9"}


class TooLong(BaseException):
    """A command took more than its processor time: not a failure."""


def make_files(folder: Path) -> Path:
    """All that `command_lines` name: a world, a saved and a trained model, vectors, runs, rows, results."""
    toy.make_world(folder)
    save_tiny_model(folder / "saved")
    (folder / "saved" / "model").rename(folder / "model")
    rows = [
        {"query": "otter rain", "passages": ["the sea", "rain"]},
        {"query": "sea", "passages": [{"id": "x", "text": "a"}]},
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_run(
        folder / "first.trec", {f"q{q}": {f"p{q + i}": float(-i) for i in range(6)} for q in range(12, 17)}, "first"
    )
    for entry, more in {"train": "trained", "evaluate": "evaluated", "encode": "", "prepare": ""}.items():
        run = f"hydra.run.dir={more or 'other'}"
        ended = outcome(entry, [*good_line(entry), run], folder)
        assert ended == "ran", ended
    (folder / "new_store").rename(folder / "store")
    (folder / "new.jsonl").rename(folder / "rows.jsonl")
    return folder


def outcome(entry: str, arguments: Sequence[str], folder: Path, seconds: int = 30) -> str:
    """Run a command in `folder`; return "ran", "refused", "stopped after ..." or what else happened."""
    said, before = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with (
            _apart(folder),
            _within(seconds),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            code = toy.command(_main(entry), *arguments)
    except TooLong:
        return f"stopped after {seconds} s of processor time"
    except BaseException as error:
        return _described(error)
    finally:
        os.chdir(before)
    return _read(code, said.getvalue())


def _read(code: int, said: str) -> str:
    if "Traceback (most recent call last)" in said:
        return f"exit code {code}, a traceback: {said[-1500:]}"
    if code == 0:
        return "ran"
    return "refused" if code == 2 and said.strip() else f"exit code {code}, said {said[-700:]!r}"


def _main(entry: str) -> Callable[[], None]:
    main: Callable[[], None] = import_module(MODULES.get(entry, f"perank.{entry}")).main
    return main


def _described(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((frame for frame in reversed(frames) if "/perank/" in frame.filename), frames[-1])
    return f"{type(error).__name__} in {Path(ours.filename).name}:{ours.lineno}: {str(error)[:300]}"


@contextlib.contextmanager
def _apart(folder: Path) -> Iterator[None]:
    """An environment that keeps the command in `folder` and off the network; servers stop at once."""
    import uvicorn

    own = {"HOME": str(folder), "PERANK_SHARED": str(folder / "shared"), "PERANK_DATA": str(folder / "data")}
    stdin = io.StringIO('{"query": "otter", "passages": ["rain", "sea"]}\n')
    environment, stop = (
        mock.patch.dict(os.environ, {**ELSEWHERE, **own}),
        mock.patch.object(uvicorn.Server, "main_loop", _nothing),
    )
    with environment, stop, mock.patch.object(sys, "stdin", stdin):
        yield


async def _nothing(_: Any) -> None:
    pass


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # processor time: busy machines are slow
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fresh(template: Path, folder: Path) -> Path:
    """A copy of the files in `folder`, whatever an earlier command left there."""
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(template, folder))
