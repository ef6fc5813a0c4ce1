"""A PostgreSQL server with pgvector for the tests of a module, on a socket in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def running_postgres() -> Iterator[Any]:
    """Start a server and yield a connection with the extension; skip where there is no PostgreSQL with pgvector."""
    binaries = _binaries()
    with tempfile.TemporaryDirectory(prefix="pg") as folder, _server(binaries, Path(folder)) as connection:
        yield connection


@contextmanager
def _server(binaries: Path, folder: Path) -> Iterator[Any]:
    import psycopg

    owner = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if owner is not None:
        shutil.chown(folder, owner)
    environment = os.environ | {"LC_ALL": "C", "TZ": "UTC"}

    def run(*words: str) -> None:
        subprocess.run(words, check=True, user=owner, env=environment, cwd="/", stdout=subprocess.DEVNULL)

    data = str(folder / "data")
    run(str(binaries / "initdb"), "-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off -c max_connections=10"
    run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        address = f"host={folder} user=test dbname=postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            yield connection
    finally:
        run(str(binaries / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")


def _binaries() -> Path:
    """The folder of `initdb` and `pg_ctl` of a PostgreSQL that has pgvector."""
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (Path("/usr/share/postgresql") / found.parent.name / "extension" / "vector.control").is_file():
            return found
    packaged = find_spec("pgserver")  # importing it warns
    if packaged is None or packaged.origin is None:
        pytest.skip("needs PostgreSQL with pgvector: Debian's postgresql-<version>-pgvector, or the package pgserver")
    return Path(packaged.origin).parent / "pginstall" / "bin"
