"""The result of evaluating one system on one suite: scores per query, the run, and its costs.

Every judged query of the suite has a score; costs are means over the ranked queries only, those for which the first
stage found candidates.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.evaluation.metrics import means
from perank.evaluation.scored import Scored
from perank.evaluation.significance import TTest, bootstrap_interval, paired_t_test
from perank.files import atomic_write, lines, read_json, write_json
from perank.records import Bill, Run, rank_order
from perank.sources import check_new, score, write_run

_ONLY_IF_ANY = {"repairs", "texts_shortened", "dollars"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`per_query`: metric -> query id -> score. `bills`: query id -> bill, empty for a run from a file.

    `seconds` is the wall time of ranking. `labels` are the suite's columns of a results table (collection, first
    stage, candidates). `note` says which queries were measured and omitted; `failed` maps the ids of queries that
    couldn't be ranked to the error. `shown`: query id -> scores of its candidates, empty for a run from a file.
    """

    suite: str
    system: str
    run: Run
    per_query: Mapping[str, Mapping[str, float]]
    bills: Mapping[str, Bill] = field(default_factory=dict)
    seconds: float = 0.0
    labels: Mapping[str, str | int] = field(default_factory=dict)
    note: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, Scored] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Metric -> mean over the queries."""
        return means(self.per_query)

    @property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """Metric -> 95 % bootstrap interval of its mean over queries; None on a suite of one query."""
        return {metric: bootstrap_interval(list(scores.values())) for metric, scores in self.per_query.items()}

    @property
    def n_queries(self) -> int:
        """Number of queries that the means are over."""
        return max(map(len, self.per_query.values()), default=0)

    def ranked(self, query_id: str, ranks: int) -> list[tuple[str, float]]:
        """The first ranks of a query, best first: passage ids with the system's scores, or else the run's."""
        run = self.run.get(query_id, {})
        scores = self.shown[query_id].scores if query_id in self.shown else run
        return [(passage, scores[passage]) for passage in rank_order(run)[:ranks]]

    @property
    def bill(self) -> Bill:
        """The sum of all bills."""
        return sum(self.bills.values(), Bill())

    @property
    def costs(self) -> dict[str, float]:
        """Means over the ranked queries of the bills' parts and of wall seconds; {} without bills.

        Costs of some rankers only (repairs, shortened texts, dollars) are omitted if 0.
        """
        if not self.bills:
            return {}
        bill, n = self.bill, len(self.bills)
        costs = {part.name: getattr(bill, part.name) / n for part in fields(Bill)}
        costs = {name: cost for name, cost in costs.items() if cost or name not in _ONLY_IF_ANY}
        return {"forwards_per_query": costs.pop("forwards")} | costs | {"seconds_per_query": self.seconds / n}

    @property
    def objective(self) -> str:
        """The suite's first metric."""
        return next(iter(self.per_query))

    def compare(self, other: Evaluation, metric: str | None = None) -> TTest:
        """Run a paired t-test of this system minus `other` on a metric (default: the suite's first).

        Raises `BadInput` if metrics or queries differ.
        """
        metric = metric or self.objective
        for evaluation in (self, other):
            if metric not in evaluation.per_query:
                raise BadInput(
                    f"{evaluation.system} has no {metric!r}, only {', '.join(evaluation.per_query)}",
                    remedy="compare a metric that the suite measures",
                )
        return paired_t_test(self.per_query[metric], other.per_query[metric])

    def p_value(self, other: Evaluation, metric: str | None = None) -> float | None:
        """Return the p-value of `compare`, or None on a suite of one query."""
        return self.compare(other, metric).p if self.n_queries > 1 else None

    def verdict(self, baselines: Iterable[Evaluation], metric: str | None = None) -> str:
        """A line per baseline, such as `beir: PE-Rank 0.4492 is below encoder 0.6678 (p < 0.001, 361 queries)`."""
        return "\n".join(self._compared(baseline, metric or self.objective) for baseline in baselines)

    def _compared(self, baseline: Evaluation, metric: str) -> str:
        ours, theirs, p = self.means[metric], baseline.means[metric], self.p_value(baseline, metric)
        if p is None or p >= 0.05:
            said = "does not differ significantly from"
        else:
            said = "is above" if ours > theirs else "is below"
        tested = "" if p is None else "p < 0.001, " if p < 0.001 else f"p = {p:.3f}, "
        note = f"({metric}, {tested}{self.n_queries} quer{'y' if self.n_queries == 1 else 'ies'})"
        return f"{self.suite}: {self.system} {ours:.4f} {said} {baseline.system} {theirs:.4f} {note}"

    def save(self, folder: str | Path, against: Sequence[Evaluation] = ()) -> None:
        """Write <suite>.<system>.trec and .per_query.tsv, then this system's entry of metrics.json.

        Writes are atomic, and the entry is written last; other entries stay. `against` are the systems that its
        p-values compare with. Raises `BadInput` for a broken metrics.json, or if another system has the same files.
        """
        folder = Path(folder)
        key, stem = f"{self.suite}/{self.system}", slug(f"{self.suite}.{self.system}")
        entries = read_entries(folder / "metrics.json")
        for other, entry in entries.items():
            if other != key and isinstance(entry, dict) and entry.get("files") == stem:
                problem = f"{key!r} and {other!r} would write the same files {stem}.*"
                raise BadInput(problem, remedy="rename one of the systems", path=folder)
        entry = self._entry(against) | {"files": stem}
        write_run(folder / f"{stem}.trec", self.run, tag=slug(self.system))
        _write_per_query(folder / f"{stem}.per_query.tsv", self.per_query, self.bills)
        write_json(folder / "metrics.json", entries | {key: entry})

    def _entry(self, against: Iterable[Evaluation]) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "system": self.system,
            **self.labels,
            "device": device_name(),
            "version": perank_version(),
            "n_queries": self.n_queries,
            "note": self.note,
            **({"failed": dict(self.failed)} if self.failed else {}),
            "means": self.means,
            "costs": self.costs,
            "p_values": {
                other.system: {metric: self.p_value(other, metric) for metric in self.per_query} for other in against
            },
        }


def perank_version() -> str:
    """The installed version."""
    return version("perank")


def device_name(device: str | None = None) -> str:
    """Return `CPU, 2 cores`, or an accelerator's name, for a torch device (default: CUDA if available)."""
    import torch

    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda"):
        return torch.cuda.get_device_name(kind)
    if not kind.startswith("cpu"):
        return kind.upper()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"CPU, {cores} core{'s' if cores > 1 else ''}"


def read_per_query(path: str | Path) -> dict[str, dict[str, float]]:
    """Read metric or cost -> query id -> value from a per_query.tsv. Raises `BadInput` for malformed lines."""
    table = [(number, text.split("\t")) for number, text in lines(path)]
    if not table or table[0][1][0] != "query":
        raise BadInput("expected a header that begins with 'query'", remedy="evaluate again", path=path)
    header = table[0][1]
    columns: dict[str, dict[str, float]] = {name: {} for name in header[1:]}
    if len(columns) < len(header) - 1:
        raise BadInput("two columns have the same name", remedy="evaluate again", path=path, line=table[0][0])
    seen: set[str] = set()
    for number, (id, *cells) in table[1:]:
        check_new(id, seen, path, number)
        seen.add(id)
        if len(cells) != len(columns):
            problem = f"expected an id and {len(columns)} numbers, found {[id, *cells]}"
            raise BadInput(problem, remedy="evaluate again", path=path, line=number)
        for name, cell in zip(columns, cells, strict=True):
            if cell:
                columns[name][id] = score(cell, path, number, id)
    return columns


def read_entries(path: Path) -> dict[str, Any]:
    """Read the evaluations of a metrics.json by suite/system, {} if it doesn't exist. Raises `BadInput` if broken."""
    entries = read_json(path) if path.exists() else {}
    if not isinstance(entries, dict):
        raise BadInput("expected a JSON object of evaluations", remedy="move the file away", path=path)
    return entries


def _write_per_query(path: Path, per_query: Mapping[str, Mapping[str, float]], bills: Mapping[str, Bill]) -> None:
    costs = [part.name for part in fields(Bill)] if bills else []
    query_ids = list(next(iter(per_query.values()), {}))
    with atomic_write(path) as file:
        file.write("\t".join(["query", *per_query, *costs]) + "\n")
        for id in query_ids:
            scores = [repr(per_query[metric][id]) for metric in per_query]
            # A query without first-stage results has scores but no bill.
            bill = [repr(getattr(bills[id], name)) if id in bills else "" for name in costs]
            file.write("\t".join([id, *scores, *bill]) + "\n")


def slug(text: str) -> str:
    """Return a text as a part of a file's name, and as a run's tag."""
    return re.sub(r"[^\w.+-]+", "_", text) or "_"
