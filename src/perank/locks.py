"""One process at a time: devices of a run and jobs of a sweep wait for each other instead of being refused."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def waiting(path: str | Path) -> Iterator[None]:
    """Hold the lock of a file, made if need be. The kernel lets go of it when the process dies."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
