"""Tables for people, made of result rows: systems as lines, and as columns the metrics, p against each baseline, costs.

Nothing is averaged or picked on the way: two values that would share a cell are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perank.errors import BadInput
from perank.reporting.rows import ResultRow

if TYPE_CHECKING:
    from rich.table import Table

_COSTS = {
    "seconds_per_query": ("seconds/query", "{:.3f}"),
    "forwards_per_query": ("forwards/query", "{:.1f}"),
    "tokens_processed": ("tokens/query", "{:.1f}"),
    "repairs": ("repairs/query", "{:.2f}"),
    "texts_shortened": ("shortened/query", "{:.1f}"),
    "dollars": ("$/query", "{:.4f}"),
}


@dataclass(slots=True)
class _Line:
    values: dict[str, float] = field(default_factory=dict)
    p_values: dict[tuple[str, str], float] = field(default_factory=dict)


def table_cells(
    rows: Iterable[ResultRow], *, metrics: Sequence[str] = ("ndcg@10",), by: Sequence[str] = ("system", "variant")
) -> tuple[list[str], list[list[str]]]:
    """Header and lines, a line for every combination of the columns `by`, in the order in which they first occur.

    Columns that nothing fills are left out. Raises `BadInput` where a cell would have two values.
    """
    grouped = _grouped(rows, by)
    tests = list(dict.fromkeys(test for line in grouped.values() for test in line.p_values if test[0] in metrics))
    columns: list[tuple[str, list[str]]] = [(name, [key[i] for key in grouped]) for i, name in enumerate(by)]
    for metric in metrics:
        columns.append((metric, [_formatted(line.values.get(metric), "{:.4f}") for line in grouped.values()]))
        for test in (test for test in tests if test[0] == metric):
            name = f"p vs {test[1]}" if len(metrics) == 1 else f"{metric} p vs {test[1]}"
            columns.append((name, [_p(line.p_values.get(test)) for line in grouped.values()]))
    for cost, (name, form) in _COSTS.items():
        columns.append((name, [_formatted(line.values.get(cost), form) for line in grouped.values()]))
    filled = [(name, cells) for name, cells in columns if any(cells)]
    return [name for name, _ in filled], [list(line) for line in zip(*(cells for _, cells in filled), strict=True)]


def render_table(
    rows: Iterable[ResultRow],
    *,
    metrics: Sequence[str] = ("ndcg@10",),
    by: Sequence[str] = ("system", "variant"),
    title: str | None = None,
    absent: Mapping[str, str] | None = None,
) -> Table:
    """The table for terminals; print it with `rich.console.Console().print`.

    Systems that are `absent` get a line of their own, and the reason below the table.
    """
    from rich.table import Table
    from rich.text import Text

    header, lines = table_cells(rows, metrics=metrics, by=by)
    table = Table(title=title)
    for name in header:
        table.add_column(name, justify="left" if name in by else "right", overflow="fold")
    for line in lines:
        # Text, so that brackets in a system's name aren't taken for markup.
        table.add_row(*map(Text, line))
    for system, reason in (absent or {}).items():
        table.add_row(Text(system), *[Text("absent" if name in metrics else "") for name in header[1:]])
        table.caption = Text(f"{table.caption or ''}{system}: {reason}\n")
        table.caption_justify = "left"
    return table


def markdown_table(
    rows: Iterable[ResultRow], *, metrics: Sequence[str] = ("ndcg@10",), by: Sequence[str] = ("system", "variant")
) -> str:
    """The table for a README; nothing where there are no rows."""
    header, lines = table_cells(rows, metrics=metrics, by=by)
    if not lines:
        return ""
    rule = ["---" if name in by else "---:" for name in header]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in (header, rule, *lines)]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _grouped(rows: Iterable[ResultRow], by: Sequence[str]) -> dict[tuple[str, ...], _Line]:
    grouped: dict[tuple[str, ...], _Line] = {}
    seen: set[tuple[tuple[str, ...], str, str]] = set()
    for row in rows:
        key = tuple("" if (cell := getattr(row, column)) is None else str(cell) for column in by)
        line = grouped.setdefault(key, _Line())
        if (key, row.metric, row.baseline) in seen or line.values.get(row.metric, row.value) != row.value:
            problem = f"two values of {row.metric} for {' '.join(filter(None, key))}"
            raise BadInput(problem, remedy=f"add a column that tells them apart to {', '.join(by)}, or select rows")
        seen.add((key, row.metric, row.baseline))
        line.values[row.metric] = row.value
        if row.p_value is not None:
            line.p_values[row.metric, row.baseline] = row.p_value
    return grouped


def _formatted(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _p(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
