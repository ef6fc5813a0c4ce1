"""Tables of result rows: a line per system; columns for metrics, p-values against each baseline, and costs.

Two values for one cell are an error, never averaged. `latency_table` has the costs of rankings: tokens, generated
tokens per rank (section 5.2), seconds, and their ratio to text listwise reranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perank.errors import BadInput
from perank.reporting.rows import ResultRow, frame_of

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
TEXTS = "text listwise"
_PHASES = {
    "ndcg@10": ("ndcg@10", "{:.4f}"),
    "tokens_prefill": ("# Proc.", "{:.1f}"),
    "tokens_processed": ("tokens read", "{:.1f}"),
    "tokens_generated": ("# Gen.", "{:.1f}"),
    "tokens_generated_per_rank": ("# Gen. a rank", "{:.2f}"),
    "forwards_per_query": ("forwards", "{:.1f}"),
    "seconds_encode": ("encode", "{:.3f}"),
    "seconds_prefill": ("prefill", "{:.3f}"),
    "seconds_decode": ("decode", "{:.3f}"),
    "seconds_per_query": ("seconds", "{:.3f}"),
}


def table_cells(
    rows: Iterable[ResultRow], *, metrics: Sequence[str] = ("ndcg@10",), by: Sequence[str] = ("system", "variant")
) -> tuple[list[str], list[list[str]]]:
    """Return header and lines: a line per combination of the columns `by`, in order of first occurrence.

    Empty columns are omitted. Raises `BadInput` if a cell has two values.
    """
    frame = frame_of(rows, by)
    _check_cells(frame, by)
    keys, values = _pivot(frame, by, "value", ["metric"])
    tested = frame[frame.p_value.notna()].sort_values("line", kind="stable")
    _, tests = _pivot(tested, by, "p_value", ["metric", "baseline"])
    columns = {name: list(keys[name]) for name in by}
    for metric in metrics:
        columns[metric] = _formatted(values, metric, "{:.4f}".format)
        for test in dict.fromkeys((metric, name) for name in tested.baseline[tested.metric == metric]):
            name = f"p vs {test[1]}" if len(metrics) == 1 else f"{metric} p vs {test[1]}"
            columns[name] = _formatted(tests.reindex(values.index), test, _p)
    columns |= {name: _formatted(values, cost, form.format) for cost, (name, form) in _COSTS.items()}
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    return list(filled), [list(line) for line in zip(*filled.values(), strict=True)]


def render_table(
    rows: Iterable[ResultRow],
    *,
    metrics: Sequence[str] = ("ndcg@10",),
    by: Sequence[str] = ("system", "variant"),
    title: str | None = None,
    absent: Mapping[str, str] | None = None,
) -> Table:
    """Return the table for `rich.console.Console().print`, with a line and the reason for each `absent` system."""
    from rich.table import Table
    from rich.text import Text

    header, lines = table_cells(rows, metrics=metrics, by=by)
    table = Table(title=title)
    for name in header:
        table.add_column(name, justify="left" if name in by else "right", overflow="fold")
    for line in lines:
        # Text, because rich would parse brackets in a system's name as markup.
        table.add_row(*map(Text, line))
    for system, reason in (absent or {}).items():
        table.add_row(Text(system), *[Text("absent" if name in metrics else "") for name in header[1:]])
        table.caption = Text(f"{table.caption or ''}{system}: {reason}\n")
        table.caption_justify = "left"
    return table


def markdown_table(
    rows: Iterable[ResultRow], *, metrics: Sequence[str] = ("ndcg@10",), by: Sequence[str] = ("system", "variant")
) -> str:
    """Return the table as Markdown; "" without rows."""
    header, lines = table_cells(rows, metrics=metrics, by=by)
    if not lines:
        return ""
    rule = ["---" if name in by else "---:" for name in header]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in (header, rule, *lines)]
    return _markdown(escaped)


def latency_table(rows: Iterable[ResultRow]) -> str:
    """Return Markdown with a line per collection, number of candidates, window, system and variant.

    `of texts` is the wall time relative to text listwise reranking with full answers in the same setting.
    """
    frame = frame_of(rows, ("candidates", "window", "step")).rename(columns={"candidates": "n"})
    frame["w/s"] = [f"{window}/{step}".strip("/") for window, step in zip(frame.window, frame.step, strict=True)]
    place, names = ["collection", "n", "w/s", "device"], ["collection", "n", "w/s", "system", "variant"]
    keys, values = _pivot(frame, [*names, "device"], "value", ["metric"])
    lines = keys.join(values.reindex(columns=list(_PHASES)).dropna(how="all"), how="inner")
    texts = lines[(lines.system == TEXTS) & lines.seconds_per_query.notna()].drop_duplicates(place)
    lines = lines.merge(texts[[*place, "seconds_per_query"]], "left", on=place, suffixes=("", " of texts"))
    lines["ratio"] = lines.seconds_per_query / lines["seconds_per_query of texts"]
    columns = {name: list(lines[name]) for name in names}
    phases = {title: _formatted(lines, metric, form.format) for metric, (title, form) in _PHASES.items()}
    columns |= {title: cells for title, cells in phases.items() if any(cells)}
    columns["of texts"] = _formatted(lines, "ratio", "{:.3f}".format)
    rule = ["---" if name in names else "---:" for name in columns]
    return _markdown([list(columns), rule, *zip(*columns.values(), strict=True)])


def _markdown(lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _pivot(frame: Any, by: Sequence[str], values: str, columns: Sequence[str]) -> tuple[Any, Any]:
    """Return the keys and the cells of lines, both by line number, in order of first occurrence.

    Keeps the line numbers in `frame` if it has them; of several values for a cell the last counts.
    """
    if "line" not in frame:
        frame["line"] = frame.groupby(list(by), sort=False).ngroup()
    cells = frame.pivot_table(index="line", columns=list(columns), values=values, aggfunc="last")
    return frame.drop_duplicates("line").set_index("line")[list(by)], cells


def _check_cells(frame: Any, by: Sequence[str]) -> None:
    cell = [*by, "metric"]
    first = frame.groupby(cell, sort=False).value.transform("first")
    wrong = frame[frame.duplicated([*cell, "baseline"]) | (frame.value != first)]
    if len(wrong):
        problem = f"two values of {wrong.metric.iloc[0]} for {' '.join(filter(None, wrong[list(by)].iloc[0]))}"
        raise BadInput(problem, remedy=f"add a column that tells them apart to {', '.join(by)}, or select rows")


def _formatted(values: Any, column: Any, form: Callable[[float], str]) -> list[str]:
    if column not in values:
        return [""] * len(values)
    return ["" if value != value else form(value) for value in values[column]]  # NaN differs from itself


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
