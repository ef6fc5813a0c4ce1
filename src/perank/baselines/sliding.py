"""One query on its way through its windows: what any window ranker for texts keeps in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perank.errors import BadInput
from perank.ranking.windows import Span, Windows, apply
from perank.records import Bill, Candidates, Ranking
from perank.sources.views import TextView


@dataclass(slots=True)
class Sliding:
    """`order` holds candidate positions; `spans` are the windows in the order they run."""

    candidates: Candidates
    spans: list[Span]
    order: list[int]
    bill: Bill = field(default_factory=Bill)

    @classmethod
    def over(cls, candidates: Candidates, windows: Windows, cutoff: int | None, *, every_rank: bool) -> Sliding:
        """At the first window. With `every_rank` each window is ranked whole, not as deep as somebody looks.

        Raises `BadInput` for an empty query.
        """
        if not candidates.query.text.strip():
            raise BadInput("the query is empty", remedy="give it a text", id=candidates.query.id)
        n = len(candidates)
        spans = windows.plan(n, cutoff) if n > 1 else []  # a single passage needs no model
        if every_rank:
            spans = [Span(span.start, span.stop, span.stop - span.start) for span in spans]
        return cls(candidates, spans, list(range(n)))

    def texts(self, span: Span, view: TextView) -> list[str]:
        """The texts inside a window, in their current order."""
        return [view(self.candidates.passages[position]) for position in self.order[span.start : span.stop]]

    def settle(self, span: Span, ranking: Sequence[int], bill: Bill) -> None:
        """Rearrange a window, and pay for it."""
        self.order, self.bill = apply(self.order, span, ranking), self.bill + bill

    def ranking(self) -> Ranking:
        """The outcome."""
        return Ranking(self.candidates, tuple(self.order), self.bill)


def needed(span: Span) -> int:
    """How many ranks an LLM has to write: of a whole window all but the last, which is forced."""
    n = span.stop - span.start
    return min(span.depth, max(1, n - 1))
