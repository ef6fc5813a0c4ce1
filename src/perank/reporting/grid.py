"""Turn measurements into a table's cells: average seeds, mark the best, test differences.

Seeds of a line are averaged per query before the paired two-sided t-test, so the test is about the expected run.
`spread` is the standard deviation of the seeds' means. As in the paper, the highest value is bold, the highest of each
block underlined; a line that doesn't differ from its block's reference at 5 % has a star.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from perank.evaluation.significance import paired_t_test
from perank.reporting import Layout, Measurement, ResultRow

ALPHA = 0.05
_HIGHER_IS_BETTER = ("ndcg", "mrr", "map", "recall", "precision", "success")

Column = tuple[str, str]
"""Displayed collection and metric."""

Place = tuple[str, tuple[str, ...]]
"""The block and the displayed labels of a line."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Mean over seeds, its spread and the number of seeds; `p` against the block's reference, if tested."""

    value: float
    spread: float | None = None
    seeds: int = 1
    p: float | None = None
    best: bool = False
    best_of_block: bool = False

    @property
    def starred(self) -> bool:
        """Whether the difference from the reference is not significant."""
        return self.p is not None and self.p >= ALPHA


@dataclass(slots=True)
class Line:
    """A line of the table: its block, displayed labels and cells, and the paper's values."""

    block: str
    shown: tuple[str, ...]
    cells: dict[Column, Cell] = field(default_factory=dict)
    paper: dict[Column, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grid:
    """The whole table."""

    layout: Layout
    columns: list[Column]
    lines: list[Line]


def make_grid(layout: Layout, measured: Sequence[Measurement], paper: Iterable[ResultRow] = ()) -> Grid:
    """Build a table. `paper` has the published figures in the same columns."""
    lines: dict[Place, Line] = {}
    for place, column, cell, _ in summaries(layout, measured):
        lines.setdefault(place, Line(*place)).cells[column] = cell
    for row in paper:
        names = ("system", "first_stage", "collection", *layout.lines, layout.block)
        labels = {name: getattr(row, name) for name in names}
        place = layout.blocked(labels), layout.line(labels)
        lines.setdefault(place, Line(*place)).paper[layout.name(row.collection), row.metric] = row.value
    columns = _columns(layout, lines.values())
    ordered = sorted(lines.values(), key=lambda line: _order(layout, line, list(lines)))
    if layout.average:
        columns += [("Avg.", metric) for metric in layout.metrics if _average(metric, columns, ordered)]
    for column in columns:
        if column[1].partition("@")[0] in _HIGHER_IS_BETTER:
            _mark_best(column, ordered)
    return Grid(layout, columns, ordered)


def summaries(layout: Layout, measured: Sequence[Measurement]) -> Iterator[tuple[Place, Column, Cell, Measurement]]:
    """Yield every cell with its line, its column, and the first of the measurements that it averages."""
    groups: dict[tuple[Place, Column], list[Measurement]] = {}
    for one in measured:
        place = layout.blocked(one.labels), layout.line(one.labels)
        for metric in one.values:
            if metric in layout.metrics:
                groups.setdefault((place, (layout.name(one.labels.get("collection")), metric)), []).append(one)
    for (place, column), members in groups.items():
        reference = place[0], tuple(layout.reference)
        others = groups.get((reference, column), []) if place[0] and place != reference else []
        yield place, column, _cell(members, others, column[1], layout), members[0]


def tidy_rows(layout: Layout, measured: Sequence[Measurement]) -> list[ResultRow]:
    """Return rows of all measurements, then of means over seeds, with p-values against the block's reference."""
    rows = [_row(one.labels, metric, value, one) for one in measured for metric, value in one.values.items()]
    for _, (_, metric), cell, first in summaries(layout, measured):
        if cell.seeds > 1 or cell.p is not None:
            labels = {k: v for k, v in first.labels.items() if k != "seed" or cell.seeds == 1}
            baseline = " ".join(layout.reference) if cell.p is not None else ""
            row = _row(labels, metric, cell.value, first)
            rows.append(replace(row, spread=cell.spread, baseline=baseline, p_value=cell.p))
    return list(dict.fromkeys(rows))


def _row(labels: Mapping[str, Any], metric: str, value: float, one: Measurement) -> ResultRow:
    return ResultRow(**labels, metric=metric, value=value, n_queries=one.n_queries)


def _cell(members: Sequence[Measurement], reference: Sequence[Measurement], metric: str, layout: Layout) -> Cell:
    values = [one.values[metric] for one in members]
    seeds = len({one.labels.get("seed") for one in members})
    spread = statistics.stdev(values) if seeds > 1 else None
    return Cell(math.fsum(values) / len(values), spread, seeds, _p(members, reference, metric, layout))


def _p(members: Sequence[Measurement], reference: Sequence[Measurement], metric: str, layout: Layout) -> float | None:
    """Return p of the paired test over queries, or the stored p-value for rows without per-query scores."""
    if not reference:
        return None
    ours, others = _means(members, metric), _means(reference, metric)
    if len(ours) > 1 and ours.keys() == others.keys():
        return paired_t_test(ours, others).p
    named = {layout.name(baseline): p for one in members for (m, baseline), p in one.p_values.items() if m == metric}
    return named.get(layout.reference[0])


def _means(members: Sequence[Measurement], metric: str) -> dict[str, float]:
    """Return query id -> mean over seeds; {} if the seeds' queries differ."""
    scores = [one.per_query.get(metric, {}) for one in members]
    if any(found.keys() != scores[0].keys() for found in scores):
        return {}
    return {id: math.fsum(found[id] for found in scores) / len(scores) for id in scores[0]}


def _columns(layout: Layout, lines: Iterable[Line]) -> list[Column]:
    """Return the columns: collections in the layout's order, then the others; within each, the metrics."""
    found = list(dict.fromkeys(key for line in lines for key in [*line.cells, *line.paper]))
    collections = list(dict.fromkeys([*layout.columns, *(collection for collection, _ in found)]))
    return [(c, metric) for c in collections for metric in layout.metrics if (c, metric) in found]


def _order(layout: Layout, line: Line, places: Sequence[Place]) -> tuple[int, int, int]:
    """Sort key of a line: without a block first, then by block; within each in the layout's order, then the others."""
    blocks = list(dict.fromkeys(block for block, _ in places))
    named = next((i for i, name in enumerate(layout.order) if name in (line.shown[0], " ".join(line.shown))), None)
    known = len(layout.order) if named is None else named
    return (-1 if not line.block else blocks.index(line.block), known, places.index((line.block, line.shown)))


def _average(metric: str, columns: Sequence[Column], lines: Sequence[Line]) -> bool:
    """Add the mean over the metric's collections to lines that have all; return whether any line has it."""
    over, column = [column for column in columns if column[1] == metric], ("Avg.", metric)
    for line in lines:
        if over and all(other in line.cells for other in over):
            line.cells[column] = Cell(math.fsum(line.cells[other].value for other in over) / len(over))
        if over and all(other in line.paper for other in over):
            line.paper.setdefault(column, math.fsum(line.paper[other] for other in over) / len(over))
    return any(column in line.cells or column in line.paper for line in lines)


def _mark_best(column: Column, lines: Sequence[Line]) -> None:
    filled = [line for line in lines if column in line.cells]
    best: dict[str | None, float] = {}  # by block; None: of all
    for line in filled:
        for block in (None, line.block):
            best[block] = max(best.get(block, -math.inf), line.cells[column].value)
    for line in filled:
        value = line.cells[column].value
        of_block = bool(line.block) and value == best[line.block]
        line.cells[column] = replace(line.cells[column], best=value == best[None], best_of_block=of_block)
