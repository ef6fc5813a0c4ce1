"""The one exception for input that perank can't use: it names the place, the problem and the remedy.

Entry points turn it into one message and exit code 2; any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM (Lightning's own exception would exit with 0)."""


class BadInput(ValueError):
    """Input that can't be used: a broken line, an unknown id, a vector of the wrong width.

    `problem` says what was expected and what was found, `remedy` what to do next;
    `path`, `line` (1-based) and `id` say where, as far as that is known.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        path: str | Path | None = None,
        line: int | None = None,
        id: str | None = None,
    ) -> None:
        self.problem, self.remedy, self.path, self.line, self.id = problem, remedy, path, line, id
        where = ":".join(str(part) for part in (path, line) if part is not None)
        named = f"id {id!r}" if id is not None else ""
        place = ", ".join(part for part in (where, named) if part)
        super().__init__(f"{place}: {problem} ({remedy})" if place else f"{problem} ({remedy})")

    def __reduce__(self) -> tuple[Callable[..., BadInput], tuple[Any, ...]]:
        """Pickle by value: unpickling calls an exception with positional arguments, and these are keyword-only."""
        return _unpickled, (self.problem, self.remedy, self.path, self.line, self.id)


def _unpickled(problem: str, remedy: str, path: str | Path | None, line: int | None, id: str | None) -> BadInput:
    return BadInput(problem, remedy=remedy, path=path, line=line, id=id)


class Absent(BadInput):
    """Weights or files that aren't on this machine, or can't be read: a table is made without that system."""


def check_least(place: str, least: int, **numbers: float | None) -> None:
    """Raise `BadInput` for a setting under `place` that is below `least`; None passes."""
    for name, number in numbers.items():
        if number is not None and number < least:
            raise BadInput(f"{name} is {number}", remedy=f"use {least} or more", id=f"{place}.{name}".strip("."))


def exits_cleanly(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap an entry point: `BadInput` is printed as one message and ends the process with exit code 2."""

    @wraps(main)
    def wrapped() -> None:
        try:
            main()
        except BadInput as error:
            _stop(error)

    return wrapped


def _stop(error: BadInput) -> NoReturn:
    import sys

    sys.stderr.write(f"perank: {error}\n")
    raise SystemExit(2)
