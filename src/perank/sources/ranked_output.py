"""Write rankings as they come, as a TREC run or JSON lines, to a file that an interrupted command resumes.

Rankings go to `<output>.part`, which becomes `<output>` at the end; `<output>.settings.json` next to it holds what the
rankings depend on, so that other settings don't continue it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from perank.errors import BadInput
from perank.files import file_lock, json_object, read_json, write_json
from perank.records import Ranking
from perank.sources import run_lines, strictly_decreasing

Write = Callable[[Iterable[Ranking]], None]


def trec_lines(ranking: Ranking) -> Iterator[str]:
    """Lines of a TREC run with scores n, n-1, ..., 1. Raises `BadInput` for ids that occur twice or have blanks."""
    query_id, scores = ranking.candidates.query.id, strictly_decreasing(ranking.passage_ids)
    if len(scores) != len(ranking.order):
        raise BadInput("a passage occurs twice among the candidates", remedy="use format=jsonl", id=query_id)
    yield from run_lines(query_id, scores, "perank")


def json_line(ranking: Ranking) -> Iterator[str]:
    """One JSON object: the query, its passages best first (`index` counts candidates from 0), the cost."""
    query, ids = ranking.candidates.query, ranking.passage_ids
    places = [{"rank": rank, "index": i, "id": id} for rank, (i, id) in enumerate(zip(ranking.order, ids), start=1)]  # noqa: B905
    cost = {name: value for name, value in asdict(ranking.bill).items() if value}
    row = {"id": query.id, "query": query.text, "ranking": places, "bill": cost}
    yield json.dumps(row, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Ranking], Iterator[str]]] = {"trec": trec_lines, "jsonl": json_line}


@contextmanager
def ranked_output(path: Path | None, form: str, settings: Mapping[str, Any]) -> Iterator[tuple[frozenset[str], Write]]:
    """Yield the ids of queries that are already in the output, and a function that appends rankings to it.

    `path` None is standard output. Raises `BadInput` if the output exists, if another process is writing it, and if an
    interrupted one was written with other settings.
    """
    if path is None:
        yield frozenset(), lambda rankings: _write(sys.stdout, form, rankings)
        return
    part, known = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.settings.json")
    with file_lock(path.with_name(f".{path.name}.lock"), wait=False):
        if path.exists():
            raise BadInput("the output exists", remedy="remove it or name another output", path=path)
        _check_settings(part, known, {**settings, "format": form})
        done, end = _finished(part, form) if part.exists() else (frozenset(), 0)
        with part.open("a", encoding="utf-8") as file:
            file.truncate(end)
            yield done, lambda rankings: _write(file, form, rankings)
            os.fsync(file.fileno())
        part.replace(path)
        known.unlink()


def _write(file: IO[str], form: str, rankings: Iterable[Ranking]) -> None:
    for ranking in rankings:
        file.writelines(FORMATS[form](ranking))
    file.flush()


def _check_settings(part: Path, path: Path, settings: Mapping[str, Any]) -> None:
    before = read_json(path) if part.exists() and path.exists() else settings
    if before != settings:
        changed = sorted(key for key in settings if before.get(key) != settings[key])
        problem = f"an interrupted output was written with other settings: {', '.join(changed)}"
        raise BadInput(problem, remedy="use these settings, or remove the file to begin again", path=part)
    write_json(path, settings)


def _finished(part: Path, form: str) -> tuple[frozenset[str], int]:
    """Ids of the queries that are complete, and the size in bytes of their lines."""
    with part.open("rb") as file:
        whole = [line for line in file if line.endswith(b"\n")]  # only the last line can be incomplete
    ids = [_query_of(line.decode("utf-8"), form, part, number) for number, line in enumerate(whole, start=1)]
    if form == "trec" and ids:  # its last query may lack lines
        whole, ids = _without_last(whole, ids)
    return frozenset(ids), sum(map(len, whole))


def _without_last(lines: Sequence[bytes], ids: Sequence[str]) -> tuple[list[bytes], list[str]]:
    count = ids.index(ids[-1])
    return [*lines[:count]], [*ids[:count]]


def _query_of(line: str, form: str, path: Path, number: int) -> str:
    if form == "trec":
        return line.split(" ", 1)[0]
    return str(json_object(line, path, number)["id"])
