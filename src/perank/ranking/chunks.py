"""Long passages: how many an encoder cuts, and ranking them by their best chunk.

With chunks, a passage enters the windows as several candidates and has the rank of its best one (MaxP, Dai & Callan
2019). Chunk k of passage `p` has the id `p#k`, title included in each: a store of chunks is filled with
`chunk_passages` and looked up by these ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perank.records import Candidates, Passage, Ranking

log = logging.getLogger(__name__)


class ShortenedCount:
    """Counts the passages that are longer than the encoder reads, and warns of the first ones."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, candidates: Candidates, encoder: Any) -> int:
        """Return the number among the candidates; 0 for an encoder that can't tell."""
        tell = getattr(encoder, "shortened", None)
        number = 0 if tell is None else sum(tell([passage.contents for passage in candidates.passages]))
        if number and not self._warned:
            self._warned = True
            log.warning(
                "%d of %d passages of this query are longer than the encoder reads: their ends don't count. Bills "
                "count these (texts_shortened); Reranker(chunk=...) ranks long passages by their best chunk",
                number,
                len(candidates),
            )
        return number


def chunk_passages(passages: Iterable[Passage], encoder: Any, tokens: int) -> list[list[Passage]]:
    """The chunks of each passage, of at most `tokens` tokens of its text; a short passage is its only chunk."""
    return [
        [
            Passage(f"{passage.id}#{k}", text, passage.title)
            for k, text in enumerate(encoder.pieces(passage.text, tokens))
        ]
        for passage in passages
    ]


@dataclass(frozen=True, slots=True)
class Chunked:
    """Candidates whose passages are the chunks of the `whole` ones; `owners` are the whole ones' positions."""

    whole: Candidates
    candidates: Candidates
    owners: Sequence[int]

    @classmethod
    def of(cls, whole: Candidates, encoder: Any, tokens: int) -> Chunked:
        """Split every passage."""
        chunks = chunk_passages(whole.passages, encoder, tokens)
        owners = [owner for owner, pieces in enumerate(chunks) for _ in pieces]
        return cls(whole, Candidates(whole.query, tuple(piece for pieces in chunks for piece in pieces)), owners)

    @property
    def is_whole(self) -> bool:
        """Whether no passage was split."""
        return len(self.owners) == len(self.whole)

    def by_best(self, ranking: Ranking) -> Ranking:
        """The ranking of the whole passages, each at the place of its first chunk; the bill is that of the chunks."""
        ranks: dict[int, int] = {}  # owner -> rank of its first chunk
        for rank, position in enumerate(ranking.order):
            ranks.setdefault(self.owners[position], rank)
        kept: dict[str, Any] = {
            name: tuple(values[rank] for rank in ranks.values())
            for name in ("raw", "probabilities")
            if (values := getattr(ranking, name))
        }
        return replace(ranking, candidates=self.whole, order=tuple(ranks), **kept)
