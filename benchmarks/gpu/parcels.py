"""Files in pieces that travel one by one: split with a manifest of SHA-256s, joined again when all are there."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import atomic_write, read_json, sha256, write_json

MANIFEST = "manifest.json"


def split(file: Path, folder: Path, most: int) -> list[Path]:
    """Write pieces of at most `most` bytes and their manifest into `folder`; return the pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    count = max(1, math.ceil(file.stat().st_size / most))
    names = [f"{file.name}.{number:02}" for number in range(count)]
    with file.open("rb") as source:
        for name in names:
            (folder / name).write_bytes(source.read(most))
    pieces = {name: sha256(folder / name) for name in names}
    write_json(folder / MANIFEST, {"file": file.name, "sha256": sha256(file), "pieces": pieces})
    return [folder / name for name in names]


def receive(carried: Path, kept: Path) -> list[str]:
    """Copy the pieces in `carried` that the manifest knows to `kept`; return the names that are still missing.

    The manifest travels with every piece. Raises `BadInput` for a damaged piece, and one of another manifest.
    """
    manifest = _manifest(carried)
    kept.mkdir(parents=True, exist_ok=True)
    if (kept / MANIFEST).is_file() and _manifest(kept) != manifest:
        raise BadInput("pieces of two different files", remedy="empty the folder", path=kept)
    shutil.copy(carried / MANIFEST, kept / MANIFEST)
    for name, digest in manifest["pieces"].items():
        if (carried / name).is_file():
            _check(carried / name, digest)
            shutil.copy(carried / name, kept / name)
    return [name for name in manifest["pieces"] if not (kept / name).is_file()]


def join(folder: Path, into: Path) -> Path:
    """Join the pieces to the file in the folder `into`. Raises `BadInput` for missing or damaged ones."""
    manifest = _manifest(folder)
    if missing := [name for name in manifest["pieces"] if not (folder / name).is_file()]:
        raise BadInput(f"missing: {', '.join(missing)}", remedy="carry these pieces too", path=folder)
    target, whole = into / manifest["file"], hashlib.sha256()
    with atomic_write(target, "wb") as file:
        for name, digest in manifest["pieces"].items():
            _check(folder / name, digest)
            content = (folder / name).read_bytes()
            whole.update(content)
            file.write(content)
    if whole.hexdigest() != manifest["sha256"]:
        target.unlink()
        raise BadInput("the pieces don't make the file", remedy="split it again", path=folder)
    return target


def _manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(folder / MANIFEST)
    return found


def _check(piece: Path, digest: str) -> None:
    if sha256(piece) != digest:
        raise BadInput("a damaged piece", remedy="carry it again", path=piece)
