"""The house's rules about its source files: who may import whom, which library sits where, how long files are."""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from perank.paths import PACKAGE_DIR

GROUND = {"records", "errors", "files", "paths"}  # what everything stands on

# Package -> the packages it may import, besides itself and the ground. Modules at the top that aren't ground are entry
# points: they see everything, and nothing inside a package sees them.
MAY_IMPORT: dict[str, set[str]] = {
    "sources": set(),
    "model": {"sources"},
    "retrieval": {"sources", "model"},
    "data": {"sources", "model", "retrieval"},
    "stages": {"sources", "model", "retrieval", "data"},
    "decoding": {"sources", "model"},
    "rerank": {"sources", "model", "decoding"},
    "baselines": {"sources", "model", "retrieval", "decoding", "rerank"},
    "planning": {"sources", "model"},
    # data: training rows have their form there
    "preparation": {"sources", "model", "retrieval", "decoding", "rerank", "baselines", "data"},
    "evaluation": {"sources", "model", "retrieval", "decoding", "rerank", "baselines"},
}
# Library -> the only places that import it.
BEHIND_ONE_FILE = {
    "ranx": {"evaluation/ndcg.py"},
    "ir_datasets": {"sources/irds.py"},
    "bm25s": {"retrieval/bm25.py"},
    "Stemmer": {"retrieval/analysis.py"},
    "faiss": {"retrieval/faiss.py"},
    "peft": {"model/lora.py"},
    "scipy": {"evaluation/significance.py"},
    "wandb": {"board.py"},
    "httpx": {"baselines/chat_api.py"},
    "tenacity": {"baselines/chat_api.py"},
}
LIGHTNING = re.compile(r"^(stages/.+|data/.+|evaluation/callback\.py|[^/]+)$")  # [^/]+: entry points
LAZY = {*BEHIND_ONE_FILE, "matplotlib", "huggingface_hub", "tokenizers", "tqdm", "pandas", "networkx", "gguf"}

FILES = {path.relative_to(PACKAGE_DIR).as_posix(): path for path in sorted(PACKAGE_DIR.rglob("*.py"))}
PACKAGES = sorted(path.name for path in PACKAGE_DIR.iterdir() if (path / "__init__.py").is_file())


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names of the modules that these nodes import."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(f"{'.' * node.level}{node.module}")
    return names


def neighbours(path: Path) -> set[str]:
    """The packages and top modules of perank that a file imports anywhere, in functions too."""
    return {name.split(".")[1] for name in imported(ast.walk(tree_of(path))) if name.startswith("perank.")}


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(ast.walk(tree_of(path)))}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    assert package in MAY_IMPORT, f"say in MAY_IMPORT what {package} may import"
    allowed = {package, *GROUND, *MAY_IMPORT[package]}
    for name, path in FILES.items():
        if name.startswith(f"{package}/"):
            assert neighbours(path) <= allowed, f"{name} imports {sorted(neighbours(path) - allowed)}"


def test_the_ground_stands_on_itself() -> None:
    for name in sorted(GROUND):
        assert neighbours(FILES[f"{name}.py"]) <= GROUND


def test_the_allowed_directions_hold_no_circle() -> None:
    for package, below in MAY_IMPORT.items():
        assert all(package not in {other, *MAY_IMPORT[other]} for other in below)


def test_imports_are_absolute() -> None:
    for name, path in FILES.items():
        assert not any(module.startswith(".") for module in imported(ast.walk(tree_of(path)))), name


@pytest.mark.parametrize("library", BEHIND_ONE_FILE)
def test_a_library_sits_behind_one_file(library: str) -> None:
    assert {name for name, path in FILES.items() if library in libraries(path)} <= BEHIND_ONE_FILE[library]


def test_lightning_lives_in_stages_data_the_callback_and_the_entries() -> None:
    users = [name for name, path in FILES.items() if libraries(path) & {"lightning", "pytorch_lightning"}]
    assert [name for name in users if not LIGHTNING.match(name)] == []


def test_optional_and_slow_libraries_are_imported_inside_functions() -> None:
    for name, path in FILES.items():
        at_the_top = {module.split(".")[0] for module in imported(tree_of(path).body)}
        assert not LAZY & at_the_top, f"{name}: {LAZY & at_the_top}"


def test_no_module_carries_a_standard_library_modules_name() -> None:
    assert not {path.stem for path in FILES.values()} & sys.stdlib_module_names


def test_files_stay_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > 250} == {}
    median = statistics.median(length for name, length in lengths.items() if not name.endswith("__init__.py"))
    sys.stdout.write(f"median: {median} lines in {len(lengths)} files\n")
    assert median <= 110
