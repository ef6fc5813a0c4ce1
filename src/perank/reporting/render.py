"""Render a table as Markdown or LaTeX. Bold: best of all; underlined: best of its block; *: no significant difference
from the block's reference. The paper's value, if any, is in the next column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perank.reporting.grid import Cell, Column, Grid, Line

_EMPTY = "-"


@dataclass(frozen=True, slots=True)
class Markup:
    """How a format marks up cells."""

    bold: Callable[[str], str]
    underlined: Callable[[str], str]
    star: str
    plus_minus: str
    text: Callable[[str], str]


def _escaped(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash{}" if character == "\\" else f"\\{character}")
    return text.replace("≥", r"$\geq$").replace("±", r"$\pm$")


MARKDOWN = Markup(lambda t: f"**{t}**", lambda t: f"<u>{t}</u>", r"\*", "±", lambda t: t.replace("|", "\\|"))
LATEX = Markup(lambda t: rf"\textbf{{{t}}}", lambda t: rf"\underline{{{t}}}", "$^{*}$", r"$\pm$", _escaped)


def markdown(grid: Grid, notes: Sequence[str] = ()) -> str:
    """Return the title, the table and notes."""
    header, lines = _text(grid, MARKDOWN)
    rule = ["---" if i <= 1 else "---:" for i in range(len(header))]
    rows = "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *lines))
    title = f"**{grid.layout.title}**\n\n" if grid.layout.title else ""
    return title + rows + "".join(f"\n{note}\n" for note in [_legend(grid), *notes])


def latex(grid: Grid, notes: Sequence[str] = ()) -> str:
    """Return a booktabs table with rules between blocks."""
    header, lines = _text(grid, LATEX)
    body: list[str] = []
    for i, (line, cells) in enumerate(zip(grid.lines, lines, strict=True)):
        if i and line.block != grid.lines[i - 1].block:
            body.append(r"\midrule")
        body.append(" & ".join(cells) + r" \\")
    caption = " ".join([grid.layout.title, _legend(grid), *notes]).strip()
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(caption)}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _text(grid: Grid, marks: Markup) -> tuple[list[str], list[list[str]]]:
    shown = _shown_columns(grid)
    header = ["Model", grid.layout.block_title, *(marks.text(_header(grid, key, paper)) for key, paper in shown)]
    return header, [_line(line, shown, marks) for line in grid.lines]


def _shown_columns(grid: Grid) -> list[tuple[Column, bool]]:
    """Return our columns, each followed by the paper's if it has one."""
    shown: list[tuple[Column, bool]] = []
    for key in grid.columns:
        if any(key in line.cells for line in grid.lines):
            shown.append((key, False))
        if any(key in line.paper for line in grid.lines):
            shown.append((key, True))
    return shown


def _header(grid: Grid, key: Column, paper: bool) -> str:
    several = len(grid.layout.metrics) > 1
    return " ".join([key[0], *([key[1]] if several else [])]) + (", paper" if paper else "")


def _line(line: Line, shown: Sequence[tuple[Column, bool]], marks: Markup) -> list[str]:
    cells = [marks.text(" ".join(filter(None, line.shown))), marks.text(line.block) or "-"]
    for key, paper in shown:
        if paper:
            cells.append(_number(line.paper[key], key[1]) if key in line.paper else _EMPTY)
        else:
            cells.append(_cell(line.cells[key], key[1], marks) if key in line.cells else _EMPTY)
    return cells


def _cell(cell: Cell, metric: str, marks: Markup) -> str:
    text = _number(cell.value, metric)
    if cell.best:
        text = marks.bold(text)
    if cell.best_of_block:
        text = marks.underlined(text)
    text += marks.star if cell.starred else ""
    return text if cell.spread is None else f"{text} {marks.plus_minus}{cell.spread:.4f}"


def _number(value: float, metric: str) -> str:
    if "@" in metric or metric == "map":
        return f"{value:.4f}"
    return f"{value:.2f}" if metric.startswith("seconds") else f"{value:.1f}"


def _legend(grid: Grid) -> str:
    cells = [cell for line in grid.lines for cell in line.cells.values()]
    parts = ["Bold: best of all. Underlined: best of its block."]
    if any(cell.p is not None for cell in cells):
        name = " ".join(grid.layout.reference)
        parts.append(f"*: no significant difference from {name} (paired two-sided t-test over queries, p ≥ 0.05).")
    if any(cell.seeds > 1 for cell in cells):
        parts.append("±: standard deviation over seeds; tests are on means over seeds.")
    return " ".join(parts)
