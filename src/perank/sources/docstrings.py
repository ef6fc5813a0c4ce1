"""Extract (query, passage) pairs from Python packages: a docstring's first sentence is the query, the rest the passage.

Files are parsed with `ast`, never imported. Only public definitions are used: no functions or classes whose names start
with an underscore, nothing inside functions. Private modules are included, because NumPy and SciPy define public
functions there.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

QUERY_WORDS = range(4, 26)
PASSAGE_WORDS = 25

_Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_Branch = (ast.If, ast.Try, ast.With, ast.ExceptHandler)

# Abbreviations that don't end a sentence.
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)[.!?](?=\s)")
_ROLE = re.compile(r":[a-z]+(?::[a-z]+)*:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_UNDERLINE = re.compile(r"^[ \t]*([-=~^*#+_\"'`.:])\1{2,}[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pair:
    """The query and the passage from the docstring of `name` (a qualified name)."""

    name: str
    query: str
    passage: str


def source_folder(package: str) -> Path | None:
    """Find the folder of `package` without importing it; `stdlib` is the standard library. None if not installed."""
    if package == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec and spec.origin and spec.submodule_search_locations else None


def source_files(package: str, skipped_folders: frozenset[str]) -> list[tuple[str, Path]]:
    """List (module name, path) of a package's .py files, by name.

    `skipped_folders` are folder names to skip at any level, or `package/name` for a top-level one.
    """
    root = source_folder(package)
    if root is None:
        return []
    prefix = () if package == "stdlib" else (package,)
    found = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        folders = {*parts[:-1], "/".join((package, *parts[:1]))}
        if not folders & skipped_folders:
            module = parts[:-1] if parts[-1] == "__init__" else parts
            found.append((".".join((*prefix, *module)), path))
    return sorted(found)


def pairs_in(module: str, path: Path) -> list[Pair]:
    """Extract the pairs of one file, in its order; a name that is defined twice may occur twice.

    Raises SyntaxError, ValueError, RecursionError or OSError for files that can't be parsed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in third-party strings
        tree = ast.parse(path.read_bytes())
    found = ((name, split_docstring(docstring)) for name, docstring in _docstrings(tree, module))
    return [Pair(name, *parts) for name, parts in found if parts]


def split_docstring(docstring: str) -> tuple[str, str] | None:
    """Split into (first sentence, rest), without extra white space and markup; None if either has the wrong length."""
    first_paragraph, _, others = readable(docstring).partition("\n\n")
    first_paragraph = " ".join(first_paragraph.split())
    end = match.end() if (match := _SENTENCE_END.search(first_paragraph)) else len(first_paragraph)
    query, passage = first_paragraph[:end], " ".join([first_paragraph[end:], others])
    passage = " ".join(passage.split())
    if _words(query) not in QUERY_WORDS or _words(passage) < PASSAGE_WORDS:
        return None
    return query, passage


def readable(text: str) -> str:
    """Remove reStructuredText underlines, roles and double backticks, and lone surrogates."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return _ROLE.sub(r"\1", _UNDERLINE.sub("", text)).replace("``", "`")


def _words(text: str) -> int:
    return sum(any(letter.isalpha() for letter in word) for word in text.split())


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if not isinstance(node, _Branch) and (docstring := ast.get_docstring(node)):  # type: ignore[arg-type]
        yield name, docstring
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Branch):
                yield from _docstrings(child, name)
            elif isinstance(child, _Definition) and not child.name.startswith("_"):
                yield from _docstrings(child, f"{name}.{child.name}")
