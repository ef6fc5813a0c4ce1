"""Results as rows of one value each, with one schema for all studies, in results.csv.

Numbers are written as Python prints them, so reading returns the same floats.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.evaluation import Evaluation, device_name, perank_version
from perank.files import atomic_write, lines


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """A measured value and the labels that identify it. None and "" mean: not applicable.

    `spread` is the standard deviation over seeds. `p_value` is of a paired t-test against `baseline`.
    Cost metrics (`forwards_per_query`, `tokens_processed`, `seconds_per_query`, ...) are means over queries.
    """

    study: str = ""
    scale: str = ""
    system: str
    variant: str = ""
    encoder: str = ""
    backbone: str = ""
    prompt: str = ""
    first_stage: str = ""
    candidates: int | None = None
    window: int | None = None
    step: int | None = None
    collection: str = ""
    metric: str
    value: float
    spread: float | None = None
    n_queries: int | None = None
    baseline: str = ""
    p_value: float | None = None
    seed: int | None = None
    device: str = ""
    version: str = ""


COLUMNS = tuple(column.name for column in fields(ResultRow))
_INTEGERS = {"candidates", "window", "step", "n_queries", "seed"}
_FLOATS = {"value", "spread", "p_value"}


def rows_from(evaluation: Evaluation, against: Sequence[Evaluation] = (), **labels: Any) -> list[ResultRow]:
    """Return a row per metric and baseline (per metric if `against` is empty), then a row per cost.

    `labels` are further columns of `ResultRow`; they override the evaluation's own. `device` defaults to
    this machine's.
    """
    common: dict[str, Any] = {
        "system": evaluation.system,
        "n_queries": evaluation.n_queries,
        "device": labels.get("device") or device_name(),
        "version": perank_version(),
    }
    common |= dict(evaluation.labels) | labels
    rows = []
    for metric, value in evaluation.means.items():
        baselines: list[dict[str, Any]] = [
            {"baseline": other.system, "p_value": evaluation.p_value(other, metric)}
            for other in against
            if other is not evaluation
        ]
        rows += [ResultRow(metric=metric, value=value, **common, **baseline) for baseline in baselines or [{}]]
    common["n_queries"] = len(evaluation.bills)
    return rows + [ResultRow(metric=name, value=value, **common) for name, value in evaluation.costs.items()]


def write_results_csv(path: str | Path, rows: Iterable[ResultRow]) -> None:
    """Write a header and `rows`, atomically. Raises `BadInput` for numbers that aren't finite and for newlines."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            cells = asdict(row)
            _check_writable(cells, path)
            writer.writerow(["" if cell is None else cell for cell in cells.values()])


def read_results_csv(path: str | Path) -> list[ResultRow]:
    """Read the rows of a results file. Raises `BadInput` for another header or a cell of the wrong type."""
    table = [(number, _cells(text, path, number)) for number, text in lines(path)]
    if not table or tuple(table[0][1]) != COLUMNS:
        problem = f"expected the header {','.join(COLUMNS)}"
        raise BadInput(problem, remedy="write the file with write_results_csv", path=path, line=1)
    return [_row(cells, path, number) for number, cells in table[1:]]


def frame_of(rows: Iterable[ResultRow], texts: Sequence[str] = ()) -> Any:
    """Return the rows as a pandas DataFrame, with the columns `texts` as strings ("" for None)."""
    import pandas

    frame = pandas.DataFrame(map(asdict, rows), columns=list(COLUMNS), dtype=object)
    frame[list(texts)] = frame[list(texts)].map(lambda cell: "" if cell is None else str(cell))
    return frame


def _check_writable(cells: dict[str, Any], path: str | Path) -> None:
    for column, cell in cells.items():
        if isinstance(cell, float) and not math.isfinite(cell):
            raise BadInput(f"{column} is {cell}: {cells}", remedy="omit the row", path=path)
        if "\n" in str(cell) or "\r" in str(cell):
            raise BadInput(f"{column} has a newline: {cell!r}", remedy="write it on one line", path=path)


def _cells(text: str, path: str | Path, line: int) -> list[str]:
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BadInput(f"not CSV: {error}", remedy="fix the line", path=path, line=line) from error


def _row(cells: list[str], path: str | Path, line: int) -> ResultRow:
    if len(cells) != len(COLUMNS):
        problem = f"expected {len(COLUMNS)} columns, found {len(cells)}"
        raise BadInput(problem, remedy="fix the line", path=path, line=line)
    values: dict[str, Any] = {
        column: _value(column, cell, path, line) for column, cell in zip(COLUMNS, cells, strict=True)
    }
    for column in ("system", "metric", "value"):
        if values[column] in ("", None):
            raise BadInput(f"{column} is empty", remedy="fix the line", path=path, line=line)
    return ResultRow(**values)


def _value(column: str, cell: str, path: str | Path, line: int) -> str | int | float | None:
    if column not in _INTEGERS | _FLOATS:
        return cell
    if not cell:
        return None
    try:
        number = int(cell) if column in _INTEGERS else float(cell)
    except ValueError as error:
        raise BadInput(f"{column} is not a number: {cell!r}", remedy="fix the line", path=path, line=line) from error
    if not math.isfinite(number):
        raise BadInput(f"{column} is {cell}", remedy="fix the line", path=path, line=line)
    return number
