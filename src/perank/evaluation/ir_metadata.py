"""Headers that say how a TREC run was made: YAML in comment lines, as https://www.ir-metadata.org defines it.

trec_eval and ir_measures refuse such lines, so runs have a header only on request. The reader here skips it.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import atomic_write, lines
from perank.sources import HEADER_END, HEADER_START, run_body

_LIBRARIES = ("perank", "torch", "transformers", "numpy", "lightning", "bm25s", "ranx")


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a run's header, {} without one. Raises `BadInput` if it isn't YAML."""
    import yaml

    header: list[str] = []
    for _, text in lines(path):
        if (not header and text.rstrip() != HEADER_START) or text.rstrip() == HEADER_END:
            break
        header.append(text.removeprefix("#"))
    try:
        return dict(yaml.safe_load("\n".join(header[1:])) or {})
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise BadInput("the header is not a YAML mapping", remedy="fix its lines", path=path, line=1) from error


def annotate(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Put a header before the lines of a run, in place of one that it has. Raises `BadInput` as `run_body` does."""
    import yaml

    written = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=10_000)
    body = list(run_body(path))
    with atomic_write(path) as file:
        file.writelines(
            f"{line}\n" for line in [HEADER_START, *(f"# {line}" for line in written.splitlines()), HEADER_END]
        )
        file.writelines(f"{text}\n" for _, text in body)


def described(tag: str, more: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return the metadata of a run that this command makes: `tag`, the machine, the software, and `more`."""
    return joined(
        {
            "tag": tag,
            "actor": {},
            "platform": {
                "hardware": {"cpu": {"architecture": platform.machine(), "number of cores": os.cpu_count()}},
                "device": device,
                "operating system": {"platform": platform.system(), "kernel": platform.release()},
                "software": {"libraries": {"python": [f"python=={platform.python_version()}", *_installed()]}},
            },
            "implementation": {"executable": {"cmd": _command()}},
            "research goal": {},
            "method": {"automatic": True, "score ties": "by passage id, descending, as trec_eval breaks them"},
            "data": {},
        },
        more,
    )


def joined(metadata: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `metadata` with the fields of `more`, which win."""
    both = {key: joined(metadata[key], more[key]) for key in more if _are_mappings(metadata.get(key), more[key])}
    return {**metadata, **more, **both}


def _command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = [Path(sys.argv[0]).name] if spec is None else ["python", "-m", spec.name]
    return shlex.join([*program, *sys.argv[1:]])


def _are_mappings(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _installed() -> Iterator[str]:
    for name in _LIBRARIES:
        try:
            yield f"{name}=={version(name)}"
        except PackageNotFoundError:
            continue
