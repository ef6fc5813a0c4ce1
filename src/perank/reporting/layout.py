"""The layout of a study's table: its lines, blocks and columns, display names and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table of one line per system and one column per collection and metric.

    `block` is the column of results that divides the table ("first_stage" in tables 1, 2 and 5, "candidates" in 3);
    `lines` are the columns that identify a line in a block. `columns` and `order` order collections and lines as in the
    paper; others follow. `names` maps values of any column to display names. `reference` is the line of each block that
    the others are tested against: displayed values of `lines`. `average` adds the mean over collections.
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
        """Return the display name of a value; that of any BM25 run is BM25."""
        text = "" if value is None else str(value)
        if text in self.names:
            return str(self.names[text])
        return "BM25" if "bm25" in text.lower().split(".") else text

    def line(self, labels: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the displayed values that identify a line in its block, without trailing empty ones."""
        shown = [self.name(labels.get(column)) for column in self.lines]
        while len(shown) > 1 and not shown[-1]:
            shown.pop()
        return tuple(shown)

    def blocked(self, labels: Mapping[str, Any]) -> str:
        """Return the block of a measurement; "" for a first stage's own ranking."""
        own = self.name(labels.get("system")) == self.name(labels.get("first_stage"))
        return "" if own and self.block == "first_stage" else self.name(labels.get(self.block))
