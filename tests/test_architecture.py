"""The house's rules about its source files: who may import whom, which library sits where, how long files are."""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import networkx
import pytest

from perank.files import PACKAGE_DIR

GROUND = {"records", "errors", "files"}  # what everything stands on

# Package -> the packages it imports, besides itself and the ground; each stands below the one before it. `app` and the
# modules at the top that aren't ground (entry points) see everything, and no package sees them.
MAY_IMPORT: dict[str, set[str]] = {
    "serving": {"ranking", "retrieval"},
    "preparation": {"baselines", "model", "ranking", "retrieval", "sources", "training"},
    "baselines": {"model", "ranking", "retrieval", "saving", "sources"},
    "adapters": {"ranking"},
    "vector_stores": {"ranking"},
    "reporting": {"evaluation", "saving"},
    "ranking": {"model", "saving"},
    "evaluation": {"model", "sources"},
    "training": {"model", "sources"},
    "saving": {"model"},
    "planning": {"model"},
    "model": set(),
    "retrieval": set(),
    "sources": set(),
}
# Library -> the only places that import it.
BEHIND_ONE_FILE = {
    "ranx": {"evaluation/metrics.py"},
    "ir_datasets": {"sources/irds.py"},
    "bm25s": {"retrieval/bm25.py"},
    "Stemmer": {"retrieval/bm25.py"},
    "faiss": {"vector_stores/faiss_index.py"},
    "qdrant_client": {"vector_stores/qdrant.py"},
    "psycopg": {"vector_stores/pgvector.py"},
    "pyterrier": {"adapters/pyterrier.py"},
    "sentence_transformers": {"adapters/sentence_transformers.py"},
    "langchain_core": {"adapters/langchain.py"},
    "llama_index": {"adapters/llama_index.py"},
    "haystack": {"adapters/haystack.py"},
    "rerankers": {"adapters/rerankers.py"},
    "mteb": {"adapters/mteb.py"},
    "peft": {"model/lora.py"},
    "sklearn": {"evaluation/calibration.py"},
    "torchmetrics": {"evaluation/calibration.py"},
    "scipy": {"evaluation/significance.py", "preparation/set_statistics.py", "preparation/query_tower.py"},
    "wandb": {"app/wandb_tables.py"},
    "httpx": {"baselines/chat_api.py"},
    "tenacity": {"baselines/chat_api.py"},
    "filelock": {"files.py"},
    "yaml": {"evaluation/ir_metadata.py"},
    "uvicorn": {"serving/command.py"},
    "prometheus_client": {"serving/metrics.py"},
    "openvino": {"model/encoders/openvino_encoder.py"},
}
LIGHTNING = re.compile(r"^(training/.+|evaluation/callback\.py|app/.+|[^/]+)$")  # [^/]+: entry points
LAZY = {*BEHIND_ONE_FILE, "matplotlib", "huggingface_hub", "tokenizers", "tqdm", "pandas", "networkx", "gguf"}

FILES = {path.relative_to(PACKAGE_DIR).as_posix(): path for path in sorted(PACKAGE_DIR.rglob("*.py"))}
MODULES = {
    ".".join(["perank", *Path(name).with_suffix("").parts]).removesuffix(".__init__"): path
    for name, path in FILES.items()
}
PACKAGES = sorted(path.name for path in PACKAGE_DIR.iterdir() if (path / "__init__.py").is_file())


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names of the modules that these nodes import; `from package import module` names the module."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = f"{'.' * node.level}{node.module}"
            names |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return names


def neighbours(path: Path) -> set[str]:
    """The modules of perank that a file imports anywhere, in functions and under TYPE_CHECKING too."""
    return {name for name in imported(ast.walk(tree_of(path))) if name in MODULES and name != "perank"}


def packages_of(path: Path) -> set[str]:
    """The packages and top modules of perank that a file imports."""
    return {name.split(".")[1] for name in neighbours(path)}


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(ast.walk(tree_of(path)))}


@pytest.mark.parametrize("package", sorted({*PACKAGES} - {"app", *GROUND}))
def test_imports_go_one_way_and_every_allowed_arrow_exists(package: str) -> None:
    assert package in MAY_IMPORT, f"say in MAY_IMPORT what {package} may import"
    found: set[str] = set()
    for name, path in FILES.items():
        if name.startswith(f"{package}/"):
            beyond = packages_of(path) - {package, *GROUND}
            assert beyond <= MAY_IMPORT[package], f"{name} imports {sorted(beyond - MAY_IMPORT[package])}"
            found |= beyond
    assert found == MAY_IMPORT[package], f"nothing in {package} imports {sorted(MAY_IMPORT[package] - found)}"


def test_the_ground_stands_on_itself() -> None:
    for name, path in FILES.items():
        if name.removesuffix(".py").split("/")[0] in GROUND:
            assert packages_of(path) <= GROUND


def test_packages_import_only_what_stands_below_them() -> None:
    places = {package: place for place, package in enumerate(MAY_IMPORT)}
    for package, below in MAY_IMPORT.items():
        assert all(places[other] > places[package] for other in below), package


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = networkx.DiGraph((name, other) for name, path in MODULES.items() for other in neighbours(path))
    assert list(networkx.simple_cycles(graph)) == []


def test_a_file_imports_few_others_of_perank() -> None:
    ground = {f"perank.{name}" for name in GROUND}
    found = [neighbours(path) for path in FILES.values()]
    assert statistics.mean(len(others) for others in found) <= 3.5
    assert statistics.mean(len(others - ground) for others in found) <= 2.3


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_offers_in_front_is_imported_from_there(package: str) -> None:
    front = neighbours(FILES[f"{package}/__init__.py"])
    offered = {module for module in front if module.startswith(f"perank.{package}.")}
    for name, path in FILES.items():
        if not name.startswith(f"{package}/"):
            assert not neighbours(path) & offered, f"{name} imports from perank.{package}: {neighbours(path) & offered}"


def test_folders_hold_what_one_can_take_in() -> None:
    folders = [path.parent for path in FILES.values()]
    assert folders.count(PACKAGE_DIR) <= 12
    assert {str(folder): folders.count(folder) for folder in folders if folders.count(folder) > 18} == {}


def test_functions_take_few_parameters() -> None:
    crowded = []
    for name, path in FILES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if sum(argument.arg not in ("self", "cls") for argument in taken) >= 8:
                    crowded.append(f"{name}: {node.name}")
    assert len(crowded) <= 8, crowded


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
        if not name.startswith("adapters/"):  # subclasses of a library's classes, whose modules users import by name
            assert not LAZY & at_the_top, f"{name}: {LAZY & at_the_top}"


def test_nothing_imports_an_adapter() -> None:
    users = {name for name, path in FILES.items() if {"adapters", "vector_stores"} & packages_of(path)}
    assert {name.split("/")[0] for name in users} <= {"adapters", "vector_stores"}


def test_no_module_carries_a_standard_library_modules_name() -> None:
    assert not {path.stem for path in FILES.values()} & sys.stdlib_module_names


def test_files_stay_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > 250} == {}
    median = statistics.median(length for name, length in lengths.items() if not name.endswith("__init__.py"))
    sys.stdout.write(f"median: {median} lines in {len(lengths)} files\n")
    assert median <= 110
