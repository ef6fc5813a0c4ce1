"""TREC's formats: runs (six columns), qrels (four columns), and folders with both and the texts.

A run's order comes from its scores (`perank.records.rank_order`). Its rank column is checked and otherwise unused:
a passage ranked below one that it outscores means that one of the columns is wrong. This check compares scores in
fp32, as trec_eval reads them, so near-ties may have any order. Runs may also have the three columns of MS MARCO,
`query passage rank`, whose order is that of the ranks.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

from perank.errors import BadInput
from perank.files import atomic_write, lines
from perank.records import Passage, Qrels, Query, Run, rank_order
from perank.sources import fields
from perank.sources.texts import read_passages, read_queries, text_file

HEADER_START, HEADER_END = "# ir_metadata.start", "# ir_metadata.end"
_BLANKS = re.compile(r"[ \t\v\f]+")
_RUN_NAME = re.compile(r"run\.(?P<name>.+?)(\.top[0-9]+)?\.trec(\.gz)?")


def read_run(path: str | Path) -> Run:
    """Read query id -> passage id -> score from `query Q0 passage rank score tag` lines.

    Lines `query passage rank`, as MS MARCO's, give the scores -1, -2, ... A header (see `run_body`) is skipped.
    Raises `BadInput` for a wrong number of columns, a duplicate passage of a query, a score that isn't a finite fp32
    number, and a rank that isn't an integer, contradicts the scores, or occurs twice where ranks are all there is.
    """
    if next((len(_BLANKS.split(text.strip(" \t\v\f"))) for _, text in run_body(path)), 6) == 3:
        return _ranked_run(path)
    run: Run = {}
    places: dict[str, list[tuple[int, float, int, str]]] = {}
    for line, (query_id, _, passage_id, rank, score, _) in _columns(path, 6, "query Q0 passage rank score tag"):
        scores = run.setdefault(query_id, {})
        fields.check_new_pair(query_id, passage_id, scores, path, line)
        scores[passage_id] = fields.score(score, path, line, passage_id)
        place = (fields.integer(rank, "rank", path, line, passage_id), scores[passage_id], line, passage_id)
        places.setdefault(query_id, []).append(place)
    for query_id, found in places.items():
        _check_ranks(query_id, found, path)
    return run


def _ranked_run(path: str | Path) -> Run:
    run: Run = {}
    seen: set[tuple[str, int]] = set()
    for line, (query_id, passage_id, place) in _columns(path, 3, "query passage rank"):
        scores = run.setdefault(query_id, {})
        fields.check_new_pair(query_id, passage_id, scores, path, line)
        rank = fields.integer(place, "rank", path, line, passage_id)
        if rank < 0 or (query_id, rank) in seen:
            problem = f"query {query_id!r}: the rank {rank} is negative or occurs twice"
            raise BadInput(problem, remedy="number the passages 1, 2, ...", path=path, line=line, id=passage_id)
        seen.add((query_id, rank))
        scores[passage_id] = float(-rank)
    return run


def run_body(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of a run's lines after its ir-metadata header, if any.

    Raises `BadInput` for a header without an end.
    """
    numbered = lines(path)
    first = next(numbered, None)
    if first is not None and first[1].rstrip() == HEADER_START:
        if not any(text.rstrip() == HEADER_END for _, text in numbered):
            raise BadInput(
                "a header without an end", remedy=f"end it with a line {HEADER_END!r}", path=path, line=first[0]
            )
    elif first is not None:
        yield first
    yield from numbered


def write_run(path: str | Path, run: Run, tag: str) -> None:
    """Write `run` atomically, each query's passages by `rank_order`; `read_run` restores the same floats.

    Queries without passages are omitted, because the format can't represent them. Raises `BadInput` for ids or a tag
    that are empty or contain blanks, and for scores that `read_run` would refuse.
    """
    with atomic_write(path) as file:
        _check_column("tag", tag, path)
        for query_id, scores in run.items():
            file.writelines(run_lines(query_id, scores, tag, path))


def run_lines(query_id: str, scores: Mapping[str, float], tag: str, path: str | Path | None = None) -> Iterator[str]:
    """Yield a query's lines of a run, by `rank_order`. Raises `BadInput` as `write_run` does, naming `path`."""
    _check_column("tag", tag, path)
    check_ids(query_id, scores, path)
    for rank, passage_id in enumerate(rank_order(scores), start=1):
        score = fields.finite(float(scores[passage_id]), path, None, passage_id)
        yield f"{query_id} Q0 {passage_id} {rank} {score!r} {tag}\n"


def read_qrels(path: str | Path) -> Qrels:
    """Read query id -> passage id -> grade from `query iteration passage grade` lines; grades may be negative.

    Repeated judgements are read once. Raises `BadInput` for a wrong number of columns, a grade that isn't an integer,
    or a pair with two grades.
    """
    qrels: Qrels = {}
    repeated = 0
    for line, (query_id, _, passage_id, grade) in _columns(path, 4, "query 0 passage grade"):
        grades = qrels.setdefault(query_id, {})
        number = fields.integer(grade, "grade", path, line, passage_id)
        if grades.get(passage_id) == number:
            repeated += 1
            continue
        fields.check_new_pair(query_id, passage_id, grades, path, line)
        grades[passage_id] = number
    fields.warn_of_repeats(repeated, path)
    return qrels


def write_qrels(path: str | Path, qrels: Qrels) -> None:
    """Write judgements atomically, as `read_qrels` reads them. Raises `BadInput` for ids that a column can't hold."""
    with atomic_write(path) as file:
        for query_id, grades in qrels.items():
            check_ids(query_id, grades, path)
            file.writelines(f"{query_id} 0 {passage_id} {grade}\n" for passage_id, grade in grades.items())


class LazyRuns(Mapping[str, Run]):
    """Runs by name, each read on first use."""

    def __init__(self, readers: Mapping[str, Callable[[], Run]]) -> None:
        self._readers = readers
        self._read: dict[str, Run] = {}

    def __getitem__(self, name: str) -> Run:
        if name not in self._read:
            self._read[name] = self._readers[name]()
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._readers  # the inherited method would read the run

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def runs_in(folder: str | Path) -> LazyRuns:
    """Find a folder's runs (`run.<name>[.top100].trec[.gz]`) by name. Raises `BadInput` if two have the same name."""
    paths: dict[str, Path] = {}
    for path in sorted(Path(folder).glob("run.*.trec*")):
        if match := _RUN_NAME.fullmatch(path.name):
            first = paths.setdefault(match["name"], path)
            if first is not path:
                problem = f"two files hold a run {match['name']!r}, the other is {first.name}"
                raise BadInput(problem, remedy="rename one of them", path=path)
    return LazyRuns({name: partial(read_run, path) for name, path in paths.items()})


class TrecCollection:
    """A folder with passages.jsonl, queries.tsv, qrels.txt and run.*.trec files.

    `queries` contains all queries of the file, judged or not; files are read on first use.
    """

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise BadInput("no such folder", remedy="check the path", path=folder)
        self.name = name or self.folder.name

    @cached_property
    def queries(self) -> Mapping[str, Query]:
        return read_queries(text_file(self.folder, "queries.tsv"))

    @cached_property
    def passages(self) -> Mapping[str, Passage]:
        return read_passages(text_file(self.folder, "passages.jsonl"))

    @cached_property
    def qrels(self) -> Qrels:
        return read_qrels(text_file(self.folder, "qrels.txt"))

    @cached_property
    def runs(self) -> Mapping[str, Run]:
        return runs_in(self.folder)


def _columns(path: str | Path, count: int, form: str) -> Iterator[tuple[int, list[str]]]:
    for line, text in run_body(path):
        columns = _BLANKS.split(text.strip(" \t\v\f"))
        if len(columns) != count:
            problem = f"expected {count} columns ({form}), found {len(columns)}"
            raise BadInput(problem, remedy="fix the line", path=path, line=line)
        yield line, columns


def _check_ranks(query_id: str, places: list[tuple[int, float, int, str]], path: str | Path) -> None:
    places = sorted(places, key=lambda place: (place[0], -place[1]))
    singles = array("f", [score for _, score, _, _ in places])
    for i in range(1, len(places)):
        if singles[i] > singles[i - 1]:
            (better_rank, _, _, other), (rank, _, line, id) = places[i - 1], places[i]
            problem = f"query {query_id!r}: rank {rank}, but it outscores {other!r} at rank {better_rank}"
            remedy = "make ranks and scores agree, for instance by numbering the passages by score again"
            raise BadInput(problem, remedy=remedy, path=path, line=line, id=id)


def check_ids(query_id: str, passage_ids: Iterable[str], path: str | Path | None = None) -> None:
    """Raise `BadInput` for ids that a run's columns can't hold: empty ones and those with blanks."""
    for what, ids in (("query id", [query_id]), ("passage id", passage_ids)):
        for id in ids:
            _check_column(what, id, path)


def _check_column(what: str, text: str, path: str | Path | None) -> None:
    if not text or len(text.split()) != 1 or text != text.strip():
        remedy = "use ids without blanks, or map them before writing"
        raise BadInput(f"a run's columns can't hold the {what} {text!r}", remedy=remedy, path=path, id=text)
