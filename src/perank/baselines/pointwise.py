"""Pointwise reranking: every passage is scored with the query alone, and passages are sorted by score.

Pairs of all queries are scored together, longest first, so that a batch holds pairs of like length. A pair's score
doesn't depend on its company, to the rounding that other batch shapes bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from perank.errors import BadInput
from perank.ranking.batching import batches
from perank.ranking.decoder import Clock
from perank.records import Bill, Candidates, Ranking
from perank.sources.views import Field, TextView


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a text as a model reads them; `types` are segment ids, if any. `shortened`: the text lost its end."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()
    shortened: bool = False


class PairScorer(Protocol):
    """monoBERT, monoT5 and their like."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        ...

    def pair(self, query: str, text: str) -> Pair:
        """The tokens of one pair. Raises `BadInput` for a query that leaves no room for a text."""
        ...

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """One score a pair, the higher the more relevant."""
        ...


class Pointwise:
    """A `Ranker`; equal scores go by passage id descending.

    `batch_tokens` bounds what runs together, padding included (None: 2,048 on a CPU, else 65,536). Equal texts of a
    query are read once: read twice, they could differ in the last bit. Every pair that is read is one forward on the
    bill; seconds are shared by tokens. Raises `BadInput` for an empty query and a score that isn't a finite number.
    """

    def __init__(self, scorer: PairScorer, *, view: TextView | None = None, batch_tokens: int | None = None) -> None:
        self.scorer, self.view = scorer, view or Field()
        self.batch_tokens = batch_tokens or (2048 if scorer.device.type == "cpu" else 65_536)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, in its order."""
        clock = Clock(self.scorer.device)
        pairs = [self._pairs(candidates) for candidates in batch]
        once = [list(dict.fromkeys(row)) for row in pairs]
        flat = [pair for row in once for pair in row]
        scores = [0.0] * len(flat)
        for group in batches([(len(pair.ids), 0) for pair in flat], self.batch_tokens):
            for i, score in zip(group, self.scorer.scores([flat[i] for i in group]), strict=True):
                scores[i] = score
        rate = clock.lap() / max(1, sum(len(pair.ids) for pair in flat))
        rankings, start = [], 0
        for candidates, row, read in zip(batch, pairs, once, strict=True):
            known = dict(zip(read, scores[start : start + len(read)], strict=True))
            rankings.append(_ranking(candidates, row, known, rate))
            start += len(read)
        return rankings

    def _pairs(self, candidates: Candidates) -> list[Pair]:
        query = candidates.query
        if not query.text.strip():
            raise BadInput("the query is empty", remedy="give it a text", id=query.id)
        return [self.scorer.pair(query.text, self.view(passage)) for passage in candidates.passages]


def _ranking(candidates: Candidates, pairs: Sequence[Pair], known: Mapping[Pair, float], rate: float) -> Ranking:
    ids, scores = [passage.id for passage in candidates.passages], [known[pair] for pair in pairs]
    for id, score in zip(ids, scores, strict=True):
        if not torch.isfinite(torch.tensor(score)):
            remedy = "run the model in float32 or bfloat16, or check its weights"
            raise BadInput(f"the score is {score}", remedy=remedy, id=id)
    tokens = sum(len(pair.ids) for pair in known)
    bill = Bill(
        forwards=len(known),
        tokens_processed=tokens,
        seconds_prefill=rate * tokens,
        texts_shortened=sum(pair.shortened for pair in pairs),
    )
    order = sorted(range(len(ids)), key=lambda i: (scores[i], ids[i]), reverse=True)
    return Ranking(candidates, tuple(order), bill)
