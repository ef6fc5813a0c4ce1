"""The texts of stage 1: a sample of a corpus too large for memory (section 4.2: 2 of 31.5 million Wikipedia passages).

The first of two passes saves a 64-bit hash of each line's text and the seed; the lines with the `rows` smallest hashes
are the sample, which so depends only on texts and seed. The second pass parses them. Each finished chunk of a pass is a
part, which a resumed run skips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from perank.errors import BadInput, check_least
from perank.files import atomic_write, write_json_lines
from perank.preparation.resumable import Resumable
from perank.preparation.set_statistics import spread
from perank.records import Passage
from perank.sources.wikipedia import WikipediaLine, wikipedia_lines

Chunks = Iterator[tuple[int, Sequence[WikipediaLine]]]


def sample_texts(
    paths: Sequence[Path],
    parts: Resumable,
    *,
    rows: int,
    seed: int = 0,
    limit: int | None = None,
    chunk: int = 250_000,
    progress: bool = True,
) -> dict[str, Any]:
    """Write a sample of `rows` passages (all, if fewer) of Wikipedia files in their order, and return counts.

    `limit` reads only the first lines. Raises `BadInput` for an id that occurs twice in the sample.
    """
    check_least("preparation", 1, rows=rows, chunk=chunk, limit=limit)

    def chunks(label: str) -> Chunks:
        return _chunks(islice(wikipedia_lines(paths), limit), chunk, label, progress)

    hashes_N = np.concatenate([np.zeros(0, np.uint64), *_hashed(chunks("hash"), parts, seed)])
    if not len(hashes_N):
        raise BadInput("there are no passages", remedy="name another file", path=parts.output)
    threshold = np.partition(hashes_N, min(rows, len(hashes_N)) - 1)[min(rows, len(hashes_N)) - 1]
    _parse(chunks("sample"), parts, hashes_N <= threshold, chunk)
    lengths = _joined(parts)
    return {"lines": len(hashes_N), "passages": len(lengths), "characters": spread(lengths)}


def _hashed(chunks: Chunks, parts: Resumable, seed: int) -> Iterator[np.ndarray]:
    for number, lines in chunks:
        path = parts.path(f"hashes-{number:05d}.npy")
        if not path.is_file():
            with atomic_write(path, "wb") as file:
                np.save(file, np.array([_hash(line.text, seed) for line in lines], dtype=np.uint64))
        yield np.load(path)


def _parse(chunks: Chunks, parts: Resumable, chosen_N: np.ndarray, chunk: int) -> None:
    for number, lines in chunks:
        name = f"texts-{number:05d}.json"
        if not parts.has(name):
            wanted = chosen_N[number * chunk : number * chunk + len(lines)]
            kept = [lines[i] for i in np.flatnonzero(wanted).tolist()]
            parts.write(name, [[str(line.path), line.number, _record(line.passage)] for line in kept])


def _joined(parts: Resumable) -> list[int]:
    """Write all parts as one file, and return the passages' lengths in characters."""
    lengths: dict[str, int] = {}

    def records() -> Iterator[dict[str, str]]:
        for path, number, record in chain.from_iterable(parts.read("texts-")):
            if (id := record["_id"]) in lengths:
                remedy = "keep one of the lines"
                raise BadInput("the id was used before", remedy=remedy, path=path, line=number, id=id)
            lengths[id] = len(record["text"])
            yield record

    write_json_lines(parts.output, records())
    return list(lengths.values())


def _chunks(lines: Iterator[WikipediaLine], chunk: int, label: str, progress: bool) -> Chunks:
    from tqdm import tqdm

    with tqdm(desc=label, unit="line", disable=not progress) as bar:
        number = 0
        while taken := list(islice(lines, chunk)):
            yield number, taken
            bar.update(len(taken))
            number += 1


def _hash(text: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest(), "little")


def _record(passage: Passage) -> dict[str, str]:
    return {"_id": passage.id, "title": passage.title, "text": passage.text}


def source_digest(paths: Sequence[Path]) -> list[list[Any]]:
    """Return names, sizes and digests of the first and last megabyte, which avoids reading gigabytes."""
    known: list[list[Any]] = []
    for path in paths:
        if not path.is_file():
            raise BadInput("no such file", remedy="check preparation.source", path=path)
        with path.open("rb") as file:
            first = file.read(1 << 20)
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            known.append([path.name, path.stat().st_size, hashlib.sha256(first + file.read()).hexdigest()])
    return known
