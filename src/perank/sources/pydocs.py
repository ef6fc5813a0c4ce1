"""The built-in collection: documentation search over the Python packages that are installed here.

A docstring's first sentence is a query, the rest of it the one relevant passage (`perank.sources.docstrings`).
Nothing is downloaded, and about 10,000 pairs come of it. The texts depend on the installed versions, so the
collection is kept in the cache under a fingerprint of those, as a BEIR folder with a manifest.

Equal passages (up to case, blanks and punctuation) are one passage with several queries; equal queries are one query
with several relevant passages. Whatever hangs together this way falls into one split, by a hash of its first name.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import atomic_write, read_json, sha256, write_json
from perank.paths import cache_dir
from perank.records import Passage, Qrels, Query, Run
from perank.sources.beir import BeirCollection
from perank.sources.docstrings import Pair, pairs_in, source_files, source_folder

FORMAT = 1
SPLITS = ("train", "dev", "test")
PACKAGES = ("stdlib", "numpy", "scipy", "torch", "pandas", "transformers", "lightning", "networkx")
# Tests; code of other packages carried along; torch's innards, which few search; and transformers' models, whose
# documentation is one text many times over.
SKIPPED_FOLDERS = frozenset(
    """
    test tests testing _testing idle_test idlelib lib2to3 distutils turtledemo site-packages dist-packages
    _vendor _lib externals __pycache__ transformers/models
    torch/_inductor torch/_dynamo torch/_functorch torch/_export torch/_higher_order_ops
    """.split()  # noqa: SIM905 - a list of names reads better as a text
)


class PyDocs:
    """Documentation search. `split` is train, dev or test (about 80, 10 and 10 % of the queries), over one corpus.

    `limit` keeps that many passages, chosen by a hash of their ids, and the queries that they answer.
    `folder` is where the collection is kept, by default the cache; a whole copy there is used as it is, also if other
    versions are installed by now, so a copied folder gives the same collection elsewhere.

    Raises `BadInput` for an unknown split, or a damaged `folder` that the installed packages can't restore.
    """

    def __init__(self, split: str = "test", limit: int | None = None, folder: str | Path | None = None) -> None:
        if split not in SPLITS:
            raise BadInput(f"there is no split {split!r}", remedy=f"choose one of {', '.join(SPLITS)}")
        if limit is not None and limit < 1:
            raise BadInput(f"limit must be at least 1, found {limit}", remedy="leave it out for the whole collection")
        self.name = f"pydocs-{split}" if limit is None else f"pydocs-{split}-{limit}"
        self._split, self._limit, self._folder = split, limit, folder

    @cached_property
    def folder(self) -> Path:
        """Where the collection lies; it is built there at the first call."""
        versions = package_versions()
        folder = Path(self._folder) if self._folder else cache_dir() / "pydocs" / fingerprint(versions)
        if not is_whole(folder):
            _check_rebuilds(folder, versions)
            build(folder, versions)
        return folder

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Package versions, counts, and the files' checksums."""
        manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        return manifest

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        passages = self._source.passages
        if self._limit is None:
            return passages
        kept = set(sorted(passages, key=lambda id: _hash(f"sample {id}"))[: self._limit])
        return {id: passage for id, passage in passages.items() if id in kept}

    @cached_property
    def qrels(self) -> Qrels:
        kept = {q: {p: g for p, g in grades.items() if p in self.passages} for q, grades in self._source.qrels.items()}
        return {query_id: grades for query_id, grades in kept.items() if grades}

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        return {id: query for id, query in self._source.queries.items() if id in self.qrels}

    @property
    def runs(self) -> Mapping[str, Run]:
        return {}

    @cached_property
    def _source(self) -> BeirCollection:
        return BeirCollection(self.folder, self._split)


def package_versions() -> dict[str, str]:
    """The installed packages of `PACKAGES` with their versions."""
    installed = [package for package in PACKAGES if source_folder(package) is not None]
    return {p: platform.python_version() if p == "stdlib" else importlib.metadata.version(p) for p in installed}


def fingerprint(versions: Mapping[str, str]) -> str:
    """A name for what `build` makes of these versions."""
    return _hash(json.dumps([FORMAT, sorted(SKIPPED_FOLDERS), sorted(versions.items())]))[:16]


def is_whole(folder: Path) -> bool:
    """Whether `folder` has a manifest and the files that it names, with their checksums."""
    try:
        files = read_json(folder / "manifest.json")["sha256"]
        return all(sha256(folder / name) == digest for name, digest in files.items())
    except (BadInput, OSError, KeyError, TypeError, AttributeError):
        return False


def build(folder: Path, versions: Mapping[str, str]) -> None:
    """Write the collection of the packages in `versions` to `folder`, the manifest last."""
    pairs, unreadable = _read_pairs(list(versions))
    passages, queries, relevant = merge(pairs)
    splits = assign_splits(relevant)
    names = ["corpus.jsonl", "queries.jsonl", *(f"qrels/{split}.tsv" for split in SPLITS)]
    _write_texts(folder / names[0], passages)
    _write_texts(folder / names[1], queries)
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
        "sha256": {name: sha256(folder / name) for name in names},
    }
    write_json(folder / "manifest.json", manifest)


def merge(pairs: list[tuple[str, Pair]]) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """(passage id -> text, query id -> text, query id -> relevant passage ids) of (package, pair) tuples.

    The first pair with a text names it: the passage by its qualified name, the query by `q:` and that name.
    """
    passage_ids: dict[str, str] = {}
    query_ids: dict[str, str] = {}
    passages: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevant: dict[str, list[str]] = {}
    for _, pair in pairs:
        passage_id = passage_ids.setdefault(_words(pair.passage), pair.name)
        query_id = query_ids.setdefault(_words(pair.query), f"q:{pair.name}")
        passages.setdefault(passage_id, pair.passage)
        queries.setdefault(query_id, pair.query)
        if passage_id not in (found := relevant.setdefault(query_id, [])):
            found.append(passage_id)
    return passages, queries, relevant


def assign_splits(relevant: Mapping[str, list[str]]) -> dict[str, str]:
    """Query id -> split. Queries that share passages, also by way of others, share the split."""
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


def _check_rebuilds(folder: Path, versions: Mapping[str, str]) -> None:
    manifest = folder / "manifest.json"
    if manifest.is_file() and f'"{fingerprint(versions)}"' not in manifest.read_text("utf-8", errors="replace"):
        remedy = "copy the folder again, or remove it to build one from the installed packages"
        raise BadInput("the collection is damaged, and other packages made it", remedy=remedy, path=manifest)


def _split(name: str) -> str:
    percent = int(_hash(f"split {name}"), 16) % 100
    return "train" if percent < 80 else "dev" if percent < 90 else "test"


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
