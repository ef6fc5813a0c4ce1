"""The built-in collection: documentation search over the installed Python packages.

A docstring's first sentence is a query, the rest its only relevant passage (`perank.sources.docstrings`). This gives
about 10,000 pairs without downloads. The texts depend on the installed versions, so the collection is cached under a
fingerprint of these, as a BEIR folder with a manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from perank.errors import BadInput
from perank.files import cache_dir, read_json, sha256, sha256_of_text
from perank.records import Passage, Qrels, Query, Run
from perank.sources.beir import BeirCollection
from perank.sources.pydocs_build import FILES, SPLITS, build, fingerprint, package_versions


class PyDocs:
    """Documentation search. `split` is train, dev or test (about 80, 10 and 10 % of the queries), over one corpus.

    `limit` keeps that many passages, chosen by a hash of their ids, and the queries that they answer. `folder` stores
    the collection, by default in the cache; a complete copy there is used even if other versions are installed, so a
    copied folder gives the same collection elsewhere. Raises `BadInput` for an unknown split, or a damaged `folder`
    that the installed packages can't restore.
    """

    runs: ClassVar[Mapping[str, Run]] = {}

    def __init__(self, split: str = "test", limit: int | None = None, folder: str | Path | None = None) -> None:
        if split not in SPLITS:
            raise BadInput(f"there is no split {split!r}", remedy=f"choose one of {', '.join(SPLITS)}")
        if limit is not None and limit < 1:
            raise BadInput(f"limit must be at least 1, found {limit}", remedy="leave it out for the whole collection")
        self.name = f"pydocs-{split}" if limit is None else f"pydocs-{split}-{limit}"
        self._split, self._limit, self._folder = split, limit, folder

    @cached_property
    def folder(self) -> Path:
        """The collection's folder; the first call builds it."""
        versions = package_versions()
        folder = Path(self._folder) if self._folder else cache_dir() / "pydocs" / fingerprint(versions)
        if not is_whole(folder):
            if self._folder:
                _check_ours(folder, versions)
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
        kept = set(sorted(passages, key=lambda id: sha256_of_text(f"sample {id}"))[: self._limit])
        return {id: passage for id, passage in passages.items() if id in kept}

    @cached_property
    def qrels(self) -> Qrels:
        kept = {q: {p: g for p, g in grades.items() if p in self.passages} for q, grades in self._source.qrels.items()}
        return {query_id: grades for query_id, grades in kept.items() if grades}

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        return {id: query for id, query in self._source.queries.items() if id in self.qrels}

    @cached_property
    def _source(self) -> BeirCollection:
        return BeirCollection(self.folder, self._split)


def is_whole(folder: Path) -> bool:
    """Whether `folder` has a finished manifest and all its files with matching checksums."""
    try:
        files = read_json(folder / "manifest.json")["sha256"]
        return set(files) == set(FILES) and all(sha256(folder / name) == files[name] for name in FILES)
    except (BadInput, OSError, KeyError, TypeError):
        return False


def _check_ours(folder: Path, versions: Mapping[str, str]) -> None:
    """Raise `BadInput` unless the user's folder is new or an unfinished build of the same packages."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    remedy = "name another folder, or remove it to have one built from the installed packages"
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise BadInput("the folder isn't empty and contains no pydocs collection", remedy=remedy, path=folder)
    found = read_json(manifest)
    if not isinstance(found, dict) or found.get("fingerprint") != fingerprint(versions):
        raise BadInput("the collection is damaged and was built from other packages", remedy=remedy, path=manifest)
