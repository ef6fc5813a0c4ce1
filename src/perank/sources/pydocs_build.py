"""Build the built-in collection: read docstrings, merge equal texts, assign splits, write files.

Equal passages (up to case, white space and punctuation) become one passage with several queries; equal queries become
one query with several relevant passages. Each connected component is assigned to one split, by a hash of its first
name.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from perank.files import atomic_write, sha256, sha256_of_text, write_json
from perank.sources.docstrings import Pair, pairs_in, source_files, source_folder

FORMAT = 1
SPLITS = ("train", "dev", "test")
FILES = ("corpus.jsonl", "queries.jsonl", *(f"qrels/{split}.tsv" for split in SPLITS))
PACKAGES = ("stdlib", "numpy", "scipy", "torch", "pandas", "transformers", "lightning", "networkx")
# Tests, vendored packages, torch's internals, and transformers' models, whose documentation is highly repetitive.
SKIPPED_FOLDERS = frozenset(
    """
    test tests testing _testing idle_test idlelib lib2to3 distutils turtledemo site-packages dist-packages
    _vendor _lib externals __pycache__ transformers/models
    torch/_inductor torch/_dynamo torch/_functorch torch/_export torch/_higher_order_ops
    """.split()  # noqa: SIM905 - a list of names reads better as a text
)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages among `PACKAGES`."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            if source_folder(package) is not None:
                stdlib = package == "stdlib"
                versions[package] = platform.python_version() if stdlib else importlib.metadata.version(package)
    return versions


def fingerprint(versions: Mapping[str, str]) -> str:
    """The name of the collection that `build` creates from these versions."""
    return sha256_of_text(json.dumps([FORMAT, sorted(SKIPPED_FOLDERS), sorted(versions.items())]))[:16]


def build(folder: Path, versions: Mapping[str, str]) -> None:
    """Write the collection of the packages in `versions` to `folder`, the finished manifest last."""
    if not (folder / "manifest.json").exists():
        write_json(folder / "manifest.json", {"format": FORMAT, "fingerprint": fingerprint(versions)})
    pairs, unreadable = _read_pairs(list(versions))
    passages, queries, relevant = merge(pairs)
    splits = assign_splits(relevant)
    _write_texts(folder / "corpus.jsonl", passages)
    _write_texts(folder / "queries.jsonl", queries)
    for split in SPLITS:
        rows = [(q, p) for q, found in relevant.items() if splits[q] == split for p in found]
        with atomic_write(folder / "qrels" / f"{split}.tsv") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            file.writelines(f"{query_id}\t{passage_id}\t1\n" for query_id, passage_id in rows)
    manifest = {
        "format": FORMAT,
        "fingerprint": fingerprint(versions),
        "packages": dict(versions),
        "missing": [package for package in PACKAGES if package not in versions],
        "pairs": len(pairs),
        "pairs_by_package": Counter(package for package, _ in pairs),
        "passages": len(passages),
        "queries": {split: sum(s == split for s in splits.values()) for split in SPLITS},
        "unreadable_files": unreadable,
        "sha256": {name: sha256(folder / name) for name in FILES},
    }
    write_json(folder / "manifest.json", manifest)


def merge(pairs: list[tuple[str, Pair]]) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """Merge (package, pair) tuples into passage id -> text, query id -> text, query id -> relevant passage ids.

    The first pair with a text gives its id: the qualified name for a passage, `q:` and that name for a query. Repeated
    names, such as property setters and overloads, become name#2.
    """
    seen: Counter[str] = Counter()
    passage_ids: dict[str, str] = {}
    query_ids: dict[str, str] = {}
    passages: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevant: dict[str, list[str]] = {}
    for _, pair in pairs:
        seen[pair.name] += 1
        name = pair.name if seen[pair.name] == 1 else f"{pair.name}#{seen[pair.name]}"
        passage_id = passage_ids.setdefault(_words(pair.passage), name)
        query_id = query_ids.setdefault(_words(pair.query), f"q:{name}")
        passages.setdefault(passage_id, pair.passage)
        queries.setdefault(query_id, pair.query)
        if passage_id not in (found := relevant.setdefault(query_id, [])):
            found.append(passage_id)
    return passages, queries, relevant


def assign_splits(relevant: Mapping[str, list[str]]) -> dict[str, str]:
    """Return query id -> split. Queries that share passages, directly or transitively, share the split."""
    askers: dict[str, list[str]] = {}
    for query_id, found in relevant.items():
        for passage_id in found:
            askers.setdefault(passage_id, []).append(query_id)
    splits: dict[str, str] = {}
    for first in sorted(relevant):
        split, waiting = _split(first), [first]
        while waiting:
            query_id = waiting.pop()
            if query_id not in splits:
                splits[query_id] = split
                waiting += [other for passage_id in relevant[query_id] for other in askers[passage_id]]
    return {query_id: splits[query_id] for query_id in relevant}


def _read_pairs(packages: list[str]) -> tuple[list[tuple[str, Pair]], int]:
    from tqdm import tqdm

    files = [(package, *file) for package in packages for file in source_files(package, SKIPPED_FOLDERS)]
    pairs: list[tuple[str, Pair]] = []
    unreadable = 0
    for package, module, path in tqdm(files, desc="reading documentation", unit="file", delay=2):
        try:
            pairs += [(package, pair) for pair in pairs_in(module, path)]
        except (SyntaxError, ValueError, RecursionError, OSError):
            unreadable += 1
    return pairs, unreadable


def _write_texts(path: Path, texts: Mapping[str, str]) -> None:
    with atomic_write(path) as file:
        file.writelines(json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items())


def _split(name: str) -> str:
    percent = int(sha256_of_text(f"split {name}"), 16) % 100
    return "train" if percent < 80 else "dev" if percent < 90 else "test"


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
