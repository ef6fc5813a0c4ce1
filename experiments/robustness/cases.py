"""What a malformed input is: something to read, and what the refusal has to name."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perank.errors import BadInput


@dataclass(frozen=True)
class Case:
    """`read` gets an empty folder, puts the input there and reads it. `named` must be known to the refusal."""

    reader: str
    defect: str
    read: Callable[[Path], Any]
    named: tuple[str, ...] = ("path",)
    line: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a case ended: "refused", "unnamed" (refused without the place), "traceback" or "silent"."""

    case: Case
    kind: str
    said: str


def tried(case: Case) -> Outcome:
    """Run a case in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="malformed-"))
    try:
        case.read(folder)
        return Outcome(case, "silent", "")
    except BadInput as error:
        missing = [name for name in case.named if getattr(error, name) is None]
        if case.line is not None and error.line != case.line:
            missing.append(f"line {case.line}, but {error.line}")
        if missing or not error.remedy or not error.problem:
            return Outcome(case, "unnamed", f"{error} [lacks {', '.join(missing)}]")
        return Outcome(case, "refused", str(error))
    except Exception:
        return Outcome(case, "traceback", traceback.format_exc())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
