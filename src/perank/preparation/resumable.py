"""Long work in numbered parts: each is a complete file or missing, so interrupted work resumes with the next one.

Parts are in a hidden folder next to the output, named by the fingerprint of all they depend on, so that other
settings never find them. A part is a pure function of its number: a run that was killed ends with the same bytes.
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
        """Path of the output's manifest."""
        return self.output.with_name(f"{self.output.name}.manifest.json")

    def finished(self) -> dict[str, Any] | None:
        """The manifest of an output that is whole already, else None.

        Raises `BadInput` where an output of other settings, or another file, is in the way.
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
        """Whether that part is whole."""
        return self.path(name).is_file()

    def path(self, name: str) -> Path:
        """The file of a part."""
        return self.folder / name

    def write(self, name: str, content: object) -> None:
        """Keep a part as JSON."""
        write_json(self.path(name), content)

    def read(self, prefix: str) -> Iterator[Any]:
        """All JSON parts whose names begin so, by name."""
        return (read_json(path) for path in sorted(self.folder.glob(f"{prefix}*.json")))

    def finish(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the output, which is written by now, and remove the parts."""
        content = {**manifest, "fingerprint": self.fingerprint, "sha256": sha256(self.output)}
        write_json(self.manifest_path, content)
        shutil.rmtree(self.folder, ignore_errors=True)
        return content


def prepared(
    output: str | Path, kind: str, known: Mapping[str, Any], make: Callable[[Resumable], Mapping[str, Any]]
) -> dict[str, Any]:
    """The manifest of `output`, which `make` writes, and returns the statistics of, unless it is whole already.

    `known` is all that the output depends on.
    """
    parts = Resumable(output, fingerprint(known))
    return parts.finished() or parts.finish({"kind": kind, **known, "statistics": make(parts)})
