"""`BadInput`, the exception for invalid input: it has the place, the problem and the remedy.

Entry points print it as one message and exit with code 2; other exceptions are bugs and keep their traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM (Lightning's own exception would exit with 0)."""


class BadInput(ValueError):
    """Invalid input: a malformed line, an unknown id, a vector of the wrong width.

    `problem` says what was expected and found, `remedy` what to do; `path`, `line` (1-based) and `id` say where.
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
        """Support pickling, which passes positional arguments by default; these are keyword-only."""
        return _unpickled, (self.problem, self.remedy, self.path, self.line, self.id)


def _unpickled(problem: str, remedy: str, path: str | Path | None, line: int | None, id: str | None) -> BadInput:
    return BadInput(problem, remedy=remedy, path=path, line=line, id=id)


class Absent(BadInput):
    """Weights or files that are missing or unreadable; tables then omit the system."""


def check_least(place: str, least: int, **numbers: float | None) -> None:
    """Raise `BadInput` if a setting under `place` is below `least`; None is accepted."""
    for name, number in numbers.items():
        if number is not None and not number >= least:  # NaN too
            raise BadInput(f"{name} is {number}", remedy=f"use {least} or more", id=f"{place}.{name}".strip("."))


def check_distinct(place: str, entries: Iterable[object]) -> None:
    """Raise `BadInput` for an entry that occurs twice in the list `place`."""
    seen: list[object] = []
    for entry in entries:
        if entry in seen:
            raise BadInput(f"{entry!r} occurs twice", remedy="name each entry once", id=place)
        seen.append(entry)


def exits_cleanly(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap an entry point so that `BadInput` prints one message and exits with code 2."""

    @wraps(main)
    def wrapped() -> None:
        try:
            main()
        except BadInput as error:
            stop(error)

    return wrapped


def stop(error: BadInput) -> NoReturn:
    """Print one message and exit with code 2."""
    import sys

    sys.stderr.write(f"perank: {error}\n")
    raise SystemExit(2)
