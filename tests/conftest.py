"""What every test may lean on: the shared collections, and a corner of its own for caches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from perank.files import shared_dir

# Busy machines are slow machines, and a test that fails once in a thousand runs is worse than one that never does.
settings.register_profile("perank", deadline=None, derandomize=True)
settings.load_profile("perank")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real collections and fixtures; tests that need it skip where it is absent."""
    folder = shared_dir()
    if not (folder / "collections").is_dir():
        pytest.skip(f"no shared test data under {folder} (set PERANK_SHARED)")
    return folder


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Undo changes of the environment: Lightning leaves a process's rank and port there, which its children obey."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="module", autouse=True)
def module_environment() -> Iterator[None]:
    """Nothing that a module's fixtures set in the environment reaches other modules."""
    with _environment_restored():
        yield


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Nothing that a test sets in the environment reaches other tests."""
    with _environment_restored():
        yield


@pytest.fixture(scope="module", autouse=True)
def module_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that outlive a test write their caches into a folder of the module's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERANK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy world of `toy.make_world`: a collection, an encoder and an LLM."""
    from support import toy  # heavy: it brings Lightning

    return toy.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    from support.browser import chromium

    with chromium() as found:  # no longer than a module: no event loop can run next to playwright's
        yield found


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test writes its caches into a folder of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PERANK_CACHE", str(folder))
    return folder
