"""Pointwise reranking: each (query, passage) pair is scored on its own, and passages are sorted by score.

Pairs of all queries are batched together, longest first, so that a batch holds pairs of similar length. A pair's score
doesn't depend on the rest of the batch, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model import padded
from perank.ranking.decoder import Clock
from perank.ranking.windows import batches
from perank.records import Bill, Candidates, Passage, Ranking


@dataclass(frozen=True, slots=True)
class Pair:
    """Token ids of a query and a text; `types` are segment ids, if any. `shortened`: the text was truncated."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()
    shortened: bool = False


class PairScorer:
    """A model and its tokenizer that score a (query, text) pair of at most `max_length` tokens."""

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int = 512) -> None:
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return next(self.model.parameters()).device

    def pair(self, query: str, text: str) -> Pair:
        """Tokenise one pair, truncating only the text. Raises `BadInput` if the query leaves no room for a text."""
        raise NotImplementedError

    def pairs(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """Tokenise (query, text) pairs as `pair` does, all whole ones by one call of the tokenizer."""
        whole = self._whole(asked) if asked else []
        # Tokenizers treat an empty second text of a single call, but not of a batch, as missing.
        fits = [text != "" and len(pair.ids) <= self.max_length for pair, (_, text) in zip(whole, asked, strict=True)]
        return [pair if fit else self.pair(*texts) for pair, fit, texts in zip(whole, fits, asked, strict=True)]

    def _whole(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """Tokenise pairs without truncation."""
        raise NotImplementedError

    @torch.inference_mode()
    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """Return one score per pair; higher is more relevant."""
        inputs = {
            "input_ids": padded([pair.ids for pair in pairs], self.tokenizer.pad_token_id or 0),
            "attention_mask": padded([[1] * len(pair.ids) for pair in pairs], 0),
        }
        if pairs[0].types:
            inputs["token_type_ids"] = padded([pair.types for pair in pairs], 0)
        scores: list[float] = self._scores({key: value.to(self.device) for key, value in inputs.items()}).tolist()
        return scores

    def _scores(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Scores [B] of padded pairs, in fp32 or wider."""
        raise NotImplementedError

    def _no_room(self, query: str) -> BadInput:
        problem = f"the query leaves no room for a text in {self.max_length} tokens"
        return BadInput(problem, remedy="raise max_length or shorten the query", id=query[:60])


class Pointwise:
    """A `Ranker`; ties are broken by passage id descending.

    `view` gives a passage's text. `batch_tokens` limits the tokens of a batch, padding included (None: 2,048 on a CPU,
    else 65,536). Equal texts of a query are scored once: scored twice, they could differ in the last bit. Each pair
    counts as one forward; seconds are shared in proportion to tokens. Raises `BadInput` for an empty query or a score
    that isn't finite.
    """

    def __init__(
        self,
        scorer: PairScorer,
        *,
        view: Callable[[Passage], str] = attrgetter("contents"),
        batch_tokens: int | None = None,
    ) -> None:
        self.scorer, self.view = scorer, view
        self.batch_tokens = batch_tokens or (2048 if scorer.device.type == "cpu" else 65_536)

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order."""
        clock = Clock(self.scorer.device)
        pairs = self._pairs(batch)
        flat = [(query, pair) for query, row in enumerate(pairs) for pair in dict.fromkeys(row)]
        known: list[dict[Pair, float]] = [{} for _ in batch]
        for group in batches([(len(pair.ids), 0) for _, pair in flat], self.batch_tokens):
            read = [flat[i] for i in group]
            for (query, pair), score in zip(read, self.scorer.scores([pair for _, pair in read]), strict=True):
                known[query][pair] = score
        rate = clock.lap() / max(1, sum(len(pair.ids) for _, pair in flat))
        return [_ranking(*row, rate) for row in zip(batch, pairs, known, strict=True)]

    def _pairs(self, batch: Sequence[Candidates]) -> list[list[Pair]]:
        for query in (candidates.query for candidates in batch):
            if not query.text.strip():
                raise BadInput("the query is empty", remedy="give it a text", id=query.id)
        asked = [(found.query.text, self.view(passage)) for found in batch for passage in found.passages]
        pairs = iter(self.scorer.pairs(asked))
        return [list(islice(pairs, len(candidates))) for candidates in batch]


def _ranking(candidates: Candidates, pairs: Sequence[Pair], known: Mapping[Pair, float], rate: float) -> Ranking:
    ids, scores = [passage.id for passage in candidates.passages], [known[pair] for pair in pairs]
    for id, score in zip(ids, scores, strict=True):
        if not math.isfinite(score):
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
