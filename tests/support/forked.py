"""A child process that shares what its parent has imported: commands start at once, and can be killed at any moment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def fork(work: Callable[[], None]) -> int:
    """The id of a child process that does `work` and ends with its exit code."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)
