"""From measurements to a table's cells: seeds together, the best marked, differences tested.

Seeds of one line are averaged, query by query, before the paired two-sided t-test: the test then asks about the
expected run. `spread` is the standard deviation of the seeds' means. Best are, as in the paper, the highest of all
(bold) and of each block (underlined); a line that doesn't differ from its block's reference at 5 % carries a star.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from perank.evaluation.significance import paired_t_test
from perank.reporting.layout import Layout
from perank.reporting.rows import ResultRow
from perank.reporting.run_results import Measured

ALPHA = 0.05
Key = tuple[str, str]
"""A column: collection (as displayed) and metric."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value: mean over seeds, its spread, how many seeds; `p` against the block's reference, if it was tested."""

    value: float
    spread: float | None = None
    seeds: int = 1
    p: float | None = None
    best: bool = False
    best_of_block: bool = False

    @property
    def starred(self) -> bool:
        """No significant difference from the reference."""
        return self.p is not None and self.p >= ALPHA


@dataclass(slots=True)
class Line:
    """A line of the table: its block, what is displayed for it, its cells, and the paper's values."""

    block: str
    shown: tuple[str, ...]
    cells: dict[Key, Cell] = field(default_factory=dict)
    paper: dict[Key, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grid:
    """The whole table."""

    layout: Layout
    columns: list[Key]
    lines: list[Line]


def make_grid(layout: Layout, measured: Sequence[Measured], paper: Iterable[ResultRow] = ()) -> Grid:
    """The cells of a table. `paper` are the published figures, in the same columns as ours."""
    groups = grouped(layout, measured)
    lines: dict[tuple[str, tuple[str, ...]], Line] = {}
    for (block, shown, key), members in groups.items():
        line = lines.setdefault((block, shown), Line(block, shown))
        reference = groups.get((block, tuple(layout.reference), key), [])
        line.cells[key] = _cell(
            members, reference if shown != tuple(layout.reference) and block else [], key[1], layout
        )
    for row in paper:
        labels = {
            name: getattr(row, name) for name in ("system", "first_stage", "collection", *layout.lines, layout.block)
        }
        place = layout.blocked(labels), layout.line(labels)
        line = lines.setdefault(place, Line(*place))
        line.paper[layout.name(row.collection), row.metric] = row.value
    columns = _columns(layout, lines.values())
    ordered = sorted(lines.values(), key=lambda line: _place(layout, line, list(lines.values())))
    _average(layout, columns, ordered)
    _mark(columns, ordered)
    return Grid(layout, columns, ordered)


def grouped(layout: Layout, measured: Sequence[Measured]) -> dict[tuple[str, tuple[str, ...], Key], list[Measured]]:
    """(block, line, column) -> the measurements of all seeds."""
    groups: dict[tuple[str, tuple[str, ...], Key], list[Measured]] = {}
    for one in measured:
        for metric in one.values:
            key = layout.name(one.labels.get("collection")), metric
            if metric in layout.metrics:
                groups.setdefault((layout.blocked(one.labels), layout.line(one.labels), key), []).append(one)
    return groups


def tidy_rows(layout: Layout, measured: Sequence[Measured]) -> list[ResultRow]:
    """Every measurement as it is, then what seeds give together, with p-values against the block's reference."""
    rows = [_row(one.labels, metric, value, one) for one in measured for metric, value in one.values.items()]
    groups = grouped(layout, measured)
    for (block, shown, key), members in groups.items():
        is_reference = shown == tuple(layout.reference) or not block
        reference = [] if is_reference else groups.get((block, tuple(layout.reference), key), [])
        cell = _cell(members, reference, key[1], layout)
        if cell.seeds > 1 or cell.p is not None:
            labels = {k: v for k, v in members[0].labels.items() if k != "seed" or cell.seeds == 1}
            row = _row(labels, key[1], cell.value, members[0])
            baseline = " ".join(layout.reference) if cell.p is not None else ""
            rows.append(replace(row, spread=cell.spread, baseline=baseline, p_value=cell.p))
    return list(dict.fromkeys(rows))


def _row(labels: Mapping[str, Any], metric: str, value: float, one: Measured) -> ResultRow:
    return ResultRow(**labels, metric=metric, value=value, n_queries=one.n_queries)


def _cell(members: Sequence[Measured], reference: Sequence[Measured], metric: str, layout: Layout) -> Cell:
    values = [one.values[metric] for one in members]
    seeds = len({one.labels.get("seed") for one in members})
    spread = statistics.stdev(values) if seeds > 1 else None
    return Cell(math.fsum(values) / len(values), spread, seeds, _p(members, reference, metric, layout))


def _p(members: Sequence[Measured], reference: Sequence[Measured], metric: str, layout: Layout) -> float | None:
    """Of the paired test over queries; for rows without per-query scores the p-value that came with them."""
    if not reference:
        return None
    ours, others = _means(members, metric), _means(reference, metric)
    if len(ours) > 1 and ours.keys() == others.keys():
        return paired_t_test(ours, others).p
    named = {layout.name(baseline): p for one in members for (m, baseline), p in one.p_values.items() if m == metric}
    return named.get(layout.reference[0])


def _means(members: Sequence[Measured], metric: str) -> dict[str, float]:
    """Query id -> mean over seeds; {} where one of them has no per-query scores or other queries."""
    scores = [one.per_query.get(metric, {}) for one in members]
    if any(found.keys() != scores[0].keys() for found in scores):
        return {}
    return {id: math.fsum(found[id] for found in scores) / len(scores) for id in scores[0]}


def _columns(layout: Layout, lines: Iterable[Line]) -> list[Key]:
    """Collections in the layout's order, then as they come; metrics within."""
    found = list(dict.fromkeys(key for line in lines for key in [*line.cells, *line.paper]))
    collections = list(dict.fromkeys([*layout.columns, *(collection for collection, _ in found)]))
    return [(c, metric) for c in collections for metric in layout.metrics if (c, metric) in found]


def _place(layout: Layout, line: Line, lines: Sequence[Line]) -> tuple[int, int, int]:
    blocks = list(dict.fromkeys(other.block for other in lines))
    named = next((i for i, name in enumerate(layout.order) if name in (line.shown[0], " ".join(line.shown))), None)
    known = len(layout.order) if named is None else named
    return (-1 if not line.block else blocks.index(line.block), known, lines.index(line))


def _average(layout: Layout, columns: list[Key], lines: Sequence[Line]) -> None:
    if not layout.average:
        return
    for metric in layout.metrics:
        over, key = [column for column in columns if column[1] == metric], ("Avg.", metric)
        for line in lines:
            if over and all(column in line.cells for column in over):
                line.cells[key] = Cell(math.fsum(line.cells[column].value for column in over) / len(over))
            if (published := [line.paper[c] for c in over if c in line.paper]) and len(published) == len(over):
                line.paper.setdefault(key, math.fsum(published) / len(published))
        if any(key in line.cells or key in line.paper for line in lines):
            columns.append(key)


def _mark(columns: Sequence[Key], lines: Sequence[Line]) -> None:
    for key in columns:
        if not _higher_is_better(key[1]):
            continue
        best = max((line.cells[key].value for line in lines if key in line.cells), default=None)
        for line in lines:
            if key in line.cells:
                cell, peers = (
                    line.cells[key],
                    [o.cells[key].value for o in lines if o.block == line.block and key in o.cells],
                )
                line.cells[key] = replace(
                    cell, best=cell.value == best, best_of_block=bool(line.block) and cell.value == max(peers)
                )


def _higher_is_better(metric: str) -> bool:
    return metric.partition("@")[0] in ("ndcg", "mrr", "map", "recall", "precision", "success")
