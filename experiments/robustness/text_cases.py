"""Malformed text files: every reader of lines meets the same broken bytes, and the defects of its own format."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cases import Case
from text_formats import FORMATS, Format

from perank.reporting.rows import COLUMNS, read_results_csv
from perank.sources.beir import BeirCollection
from perank.sources.candidates import make_candidates
from perank.sources.trec import TrecCollection


def cases() -> Iterator[Case]:
    """All text cases."""
    for one in FORMATS:
        for defect, line in one.bad.items():
            for position in (0, 1) if len(one.good) == 1 and defect not in _NEED_A_LINE_BEFORE else (1,):
                yield _line_case(one, defect, line, position)
        for defect, content in one.whole.items():
            yield Case(one.name, defect, _reading(one, content.encode()))
        yield from _broken_files(one)
    yield from _collections()
    yield Case("results.csv", "no header", lambda folder: _read(folder, "results.csv", b"1,2\n", read_results_csv))
    for cells in ({"value": "nan"}, {"value": ""}, {"value": "1,2"}, {"value": "x"}, {"n_queries": "many"}):
        yield Case("results.csv", f"a row with {cells}", partial(_results, **cells), ("path", "line"))
    yield Case("results.csv", "missing", lambda folder: read_results_csv(folder / "results.csv"))


def _results(folder: Path, **cells: str) -> Any:
    row = {"system": "x", "metric": "map", "value": "1"} | cells
    lines = [",".join(COLUMNS), ",".join(row.get(column, "") for column in COLUMNS)]
    return _read(folder, "results.csv", "\n".join([*lines, ""]).encode(), read_results_csv)


_NEED_A_LINE_BEFORE = {
    "six columns",
    "rank twice",
    "id used before",
    "pair twice",
    "passage twice",
    "rank contradicts score",
    "query twice",
}


def _line_case(one: Format, defect: str, line: str, position: int) -> Case:
    lines = [*one.good]
    place = position if len(one.good) == 1 else len(lines)
    lines.insert(place, line)
    content = "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")
    blanks = "" if one.name == "TREC run" and defect == "rank contradicts score" else "\n"
    return Case(
        one.name,
        f"{defect}, line {place + 2 if blanks else place + 1}",
        _reading(one, blanks.encode() + content),
        one.named,
        place + 2 if blanks else place + 1,
    )


def _broken_files(one: Format) -> Iterator[Case]:
    good = "\n".join([*one.good, ""]).encode()
    yield Case(one.name, "missing file", lambda folder: one.read(folder / one.file))
    yield Case(
        one.name, "a folder in its place", lambda folder: (folder / one.file).mkdir() or one.read(folder / one.file)
    )
    yield Case(one.name, "bytes that aren't UTF-8", _reading(one, good + b"\xff\xfe\n"), ("path", "line"))
    yield Case(one.name, "UTF-16", _reading(one, good.decode().encode("utf-16")))
    packed = gzip.compress(good * 50)
    for name, content in {
        "torn gzip": packed[: len(packed) // 2],
        "no gzip": good,
        "gzip with a wrong sum": packed[:-8] + b"\0" * 8,
    }.items():
        yield Case(one.name, name, _reading(one, content, one.file + ".gz"))


def _reading(one: Format, content: bytes, file: str = "") -> Callable[[Path], Any]:
    return lambda folder: _read(folder, file or one.file, content, one.read)


def _read(folder: Path, file: str, content: bytes, read: Callable[[Path], Any]) -> Any:
    (folder / file).write_bytes(content)
    return read(folder / file)


def _collections() -> Iterator[Case]:
    """Files that are well-formed each and don't belong together."""

    def trec(folder: Path, run: str, query_ids: list[str] | None = None) -> Any:
        (folder / "passages.jsonl").write_text('{"_id": "a", "text": "one"}\n')
        (folder / "queries.tsv").write_text("q1\tone\n")
        (folder / "qrels.txt").write_text("q1 0 a 1\n")
        (folder / "run.x.trec").write_text(run)
        collection = TrecCollection(folder)
        return make_candidates(collection, collection.runs["x"], 10, query_ids)

    def beir(folder: Path, split: str, judged: str) -> Any:
        (folder / "qrels").mkdir()
        (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "one"}\n')
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
        return BeirCollection(folder, split).queries

    def two_runs(folder: Path) -> Any:
        (folder / "run.x.top100.trec").write_text("")
        return trec(folder, "")

    yield Case("collections", "run names an unknown passage", lambda f: trec(f, "q1 Q0 z 1 1 t\n"), ("id",))
    yield Case("collections", "run of other queries", lambda f: trec(f, "q9 Q0 a 1 1 t\n"), ("id",))
    yield Case("collections", "unknown query asked for", lambda f: trec(f, "q1 Q0 a 1 1 t\n", ["q7"]), ("id",))
    yield Case("collections", "judged query without a text", lambda f: beir(f, "test", "q2\ta\t1\n"), ("path", "id"))
    yield Case("collections", "unknown split", lambda f: beir(f, "dev", "q1\ta\t1\n"))
    yield Case("collections", "no such folder", lambda f: TrecCollection(f / "none"))
    yield Case(
        "collections",
        "two runs of one name",
        two_runs,
    )
