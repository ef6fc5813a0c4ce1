"""Where files are (configuration, cache, shared test data) and how they are written and read: atomically, with
locks, checksums, JSON without repeated keys, and JSON lines with line numbers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from perank.errors import BadInput

PACKAGE_DIR = Path(__file__).resolve().parent
_CHECKOUT = PACKAGE_DIR.parent.parent

# A wheel contains conf/ in the package; an editable install uses that of the checkout.
CONF_DIR = PACKAGE_DIR / "conf" if (PACKAGE_DIR / "conf").is_dir() else _CHECKOUT / "conf"


def cache_dir() -> Path:
    """Return the folder for recomputable files (weights, indexes, vectors): `PERANK_CACHE`, else ~/.cache/perank.

    Raises `BadInput` for a user without a home.
    """
    try:
        return Path(os.environ.get("PERANK_CACHE") or Path.home() / ".cache" / "perank")
    except RuntimeError as error:
        problem = "this user has no home, where the cache would be"
        raise BadInput(problem, remedy="set PERANK_CACHE to a folder that can be written", id="PERANK_CACHE") from error


def shared_dir() -> Path:
    """Return the folder with `collections/` and `fixtures/`: `PERANK_SHARED`, else `shared` next to the checkout."""
    return Path(os.environ.get("PERANK_SHARED") or _CHECKOUT.parent / "shared")


def same_folder(one: str, other: str) -> bool:
    """Whether two names are those of one existing folder."""
    paths = [Path(name).expanduser() if name.startswith("~/") else Path(name) for name in (one, other)]
    return all(path.is_dir() for path in paths) and paths[0].samefile(paths[1])


def make_folder(path: Path) -> None:
    """Create a folder and its parents where they are missing. Raises `BadInput` if that can't be done."""
    with _writable(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Convert errors of the system for a folder that can't be written to `BadInput`; the cache has its own remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        problem, remedy = f"the folder can't be created: {error.strerror}", "name one that can be written"
        if folder.is_relative_to(cache_dir()):
            problem = f"the cache can't be written: {error.strerror}"
            remedy = "set the environment variable PERANK_CACHE to a folder that can be written"
        raise BadInput(problem, remedy=remedy, path=folder) from error


_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST}


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file next to `path`; on success fsync it and rename it to `path`, else remove it."""
    path = Path(path)
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise BadInput("no space left on the disk", remedy="free some space and run again", path=path) from error
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path` that replaces it on success and is removed on failure."""
    path = Path(path)
    make_folder(path.parent)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=".draft-"))
    try:
        yield draft
        draft.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def folder_made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder `path`, filled by `make` if it doesn't exist; other processes wait for it."""
    if not path.is_dir():
        with file_lock(path.with_name(f".{path.name}.lock")):
            if not path.is_dir():  # another process may have created it
                with atomic_folder(path) as draft:
                    make(draft)
    return path


@contextmanager
def file_lock(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is created if missing; the kernel releases it when the process dies.

    Raises `BadInput` if its folder can't be written, and with `wait=False` if another process holds it.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path, blocking=wait)
    try:
        with _writable(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout as error:
        remedy = "wait until it has finished"
        raise BadInput("another process is writing here", remedy=remedy, path=path.parent) from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False, sort_keys=False)
        file.write("\n")


def write_json_lines(path: str | Path, records: Iterable[object]) -> int:
    """Write one JSON value per line, atomically; return the number of lines."""
    with atomic_write(path) as file:
        return sum(file.write(json.dumps(record, ensure_ascii=False) + "\n") > 0 for record in records)


def read_json(path: str | Path) -> Any:
    """Parse a JSON file. Raises `BadInput` with file and line for invalid JSON and duplicate keys."""
    path = Path(path)
    with _readable(path):
        content = path.read_bytes()
    try:
        return _DECODER.decode(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput("not UTF-8 text", remedy="save the file as UTF-8", path=path) from error
    except (ValueError, RecursionError) as error:  # invalid JSON, huge integers, deep nesting
        line = getattr(error, "lineno", None)
        said = getattr(error, "msg", error)
        raise BadInput(f"not JSON: {said}", remedy="fix or remove the file", path=path, line=line) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Convert errors of the system for an unreadable path to `BadInput`."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadInput("no such file", remedy="check the path", path=path) from error
    except IsADirectoryError as error:
        raise BadInput("expected a file, found a folder", remedy="name a file in it", path=path) from error
    except (NotADirectoryError, PermissionError) as error:
        problem = f"can't be read: {error.strerror}"
        raise BadInput(problem, remedy="check the path and its permissions", path=path) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; raise `ValueError` for duplicate keys, of which `json` would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Hex digest of a text encoded as UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without newline) of each non-blank line of a UTF-8 file, plain or gzipped.

    Raises `BadInput` for a missing file, bytes that aren't UTF-8, or a broken gzip stream.
    """
    import gzip
    import zlib

    path = Path(path)
    number = 0
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with _readable(path), opener(path, "rt", encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if (text := line.strip("\r\n")) and not text.isspace():
                    yield number, text
    except UnicodeDecodeError as error:
        raise BadInput("not UTF-8 text", remedy=_as_utf8(path), path=path, line=number + 1) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = "the gzip stream is broken"
        raise BadInput(problem, remedy="download the file again", path=path, line=number + 1) from error


def _as_utf8(path: Path) -> str:
    with path.open("rb") as file:
        is_utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    return f"save the file as UTF-8{', as iconv -f UTF-16 -t UTF-8 does' if is_utf16 else ''}"


def json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of each line of a JSONL file. Raises `BadInput` as `lines` and `json_object` do."""
    for number, text in lines(path):
        yield number, json_object(text, path, number)


def json_object(text: str, path: str | Path, line: int) -> dict[str, Any]:
    """Parse a line of a file as a JSON object. Raises `BadInput` if it isn't one or has duplicate keys."""
    try:
        row = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:  # invalid JSON, duplicate keys, huge integers
        raise BadInput(f"not JSON: {error}", remedy="fix or remove the line", path=path, line=line) from error
    if not isinstance(row, dict):
        problem = f"expected a JSON object, found {type(row).__name__}"
        raise BadInput(problem, remedy="write one object per line", path=path, line=line)
    return row
