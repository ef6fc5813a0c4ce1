"""Resumable work in numbered parts, each of which is a complete file or missing.

Parts are in a hidden folder next to the output, named by the fingerprint of all that they depend on, so other settings
don't reuse them. A part depends only on its number, so an interrupted run gives the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import read_json, sha256, write_json
from perank.preparation.fingerprint import fingerprint


class Resumable:
    """The parts of `output`; `finish` writes the manifest next to it and removes them."""

    def __init__(self, output: str | Path, fingerprint: str) -> None:
        self.output, self.fingerprint = Path(output), fingerprint
        self.folder = self.output.parent / f".{self.output.name}.{fingerprint}"

    @property
    def manifest_path(self) -> Path:
        """The path of the output's manifest."""
        return self.output.with_name(f"{self.output.name}.manifest.json")

    def finished(self) -> dict[str, Any] | None:
        """Return the manifest if the output is complete, None if it doesn't exist.

        Raises `BadInput` if the file has other settings or contents.
        """
        if not self.output.exists():
            return None
        manifest = read_json(self.manifest_path) if self.manifest_path.is_file() else {}
        made_of = manifest.get("fingerprint") if isinstance(manifest, dict) else None
        if made_of != self.fingerprint or sha256(self.output) != manifest["sha256"]:
            problem = "the file exists and was made with other settings or texts, or has changed since"
            raise BadInput(problem, remedy="remove it, or name another preparation.output", path=self.output)
        return dict(manifest)

    def has(self, name: str) -> bool:
        """Return whether a part exists."""
        return self.path(name).is_file()

    def path(self, name: str) -> Path:
        """Return the path of a part."""
        return self.folder / name

    def write(self, name: str, content: object) -> None:
        """Write a part as JSON."""
        write_json(self.path(name), content)

    def read(self, prefix: str) -> Iterator[Any]:
        """Read all JSON parts whose names begin with `prefix`, sorted by name."""
        return (read_json(path) for path in sorted(self.folder.glob(f"{prefix}*.json")))

    def finish(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest of the finished output, and remove the parts."""
        content = {**manifest, "fingerprint": self.fingerprint, "sha256": sha256(self.output)}
        write_json(self.manifest_path, content)
        shutil.rmtree(self.folder, ignore_errors=True)
        return content


def prepared(
    output: str | Path, kind: str, known: Mapping[str, Any], make: Callable[[Resumable], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the manifest of `output`; if that is not complete, `make` writes it and returns its statistics.

    `known` is everything that the output depends on.
    """
    parts = Resumable(output, fingerprint(known))
    return parts.finished() or parts.finish({"kind": kind, **known, "statistics": make(parts)})
