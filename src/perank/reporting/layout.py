"""How a study's table looks: which columns make lines, blocks and columns, what things are called, what is tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table of one line a system and one column a collection and metric.

    `block` is the column of results whose values part the table ("first_stage" in tables 1, 2 and 5, "candidates" in
    3); `lines` the columns that tell lines of a block apart. `columns` and `order` put collections and lines into the
    paper's order; others follow. `names` gives display names to values of any column. `reference` is the line of each
    block that the others are tested against: values of `lines`, as displayed. `average` adds the mean over collections.
    """

    title: str = ""
    block: str = "first_stage"
    block_title: str = "Ret."
    lines: Sequence[str] = ("system", "variant")
    metrics: Sequence[str] = ("ndcg@10",)
    columns: Sequence[str] = ()
    order: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    reference: Sequence[str] = ("PE-Rank",)
    average: bool = False

    def name(self, value: object) -> str:
        """What a value is called; any BM25 run is BM25."""
        text = "" if value is None else str(value)
        if text in self.names:
            return str(self.names[text])
        return "BM25" if "bm25" in text.lower().split(".") else text

    def line(self, labels: Mapping[str, Any]) -> tuple[str, ...]:
        """The displayed values that tell a line from others of its block, empty ones at the end left out."""
        shown = [self.name(labels.get(column)) for column in self.lines]
        while len(shown) > 1 and not shown[-1]:
            shown.pop()
        return tuple(shown)

    def blocked(self, labels: Mapping[str, Any]) -> str:
        """The block of a measurement; "" for a first stage's own ranking, which belongs to none."""
        own = self.name(labels.get("system")) == self.name(labels.get("first_stage"))
        return "" if own and self.block == "first_stage" else self.name(labels.get(self.block))
