"""PE-Rank in the shape of sentence-transformers' `CrossEncoder`: `rank` and `predict`, for what takes one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from perank.adapters.scoring import ranked, ranker_or_default, scores_by_position
from perank.errors import BadInput
from perank.files import sha256_of_text
from perank.records import Candidates, Passage, Query, Ranker

Pair = Sequence[str]


class PERankCrossEncoder:
    """`CrossEncoder` without one score per pair: PE-Rank compares the documents of a query with each other.

    `predict` therefore ranks all pairs of a query in one call together, and its scores compare within a query only. It
    reads the documents in the order of their hashes: their order in the call doesn't influence the scores, so that an
    evaluator that lists relevant documents first can't help. `rank` reads them as first-stage results, best first.
    Keyword arguments that concern a model's inputs (`batch_size`, `prompt`, `activation_fn`, ...) are accepted and have
    no effect.
    """

    def __init__(self, ranker: Ranker | None = None) -> None:
        self.ranker = ranker_or_default(ranker)

    @cached_property
    def model_card_data(self) -> Any:
        """Where the library's evaluators put their figures."""
        from sentence_transformers.cross_encoder.model_card import CrossEncoderModelCardData

        return CrossEncoderModelCardData()

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **_: Any,
    ) -> list[dict[str, Any]]:
        """Return `corpus_id`, `score` and, if wanted, `text` of the best `top_k` documents, best first."""
        passages = [Passage(str(i), text) for i, text in enumerate(documents)]
        found = [{"corpus_id": i, "score": score} for i, score in ranked(self.ranker, query, passages, top_k)]
        if return_documents:
            return [{**result, "text": documents[int(result["corpus_id"])]} for result in found]
        return found

    def predict(self, inputs: Sequence[Pair] | Pair, *_: Any, convert_to_tensor: bool = False, **__: Any) -> Any:
        """Scores of (query, document) pairs, in their order: fp32 [B], as numpy or torch; of one pair, a scalar.

        Raises `BadInput` for what isn't a pair of texts.
        """
        one = bool(inputs) and isinstance(inputs[0], str)
        pairs: Any = [inputs] if one else inputs
        scores = self._scores(pairs)
        if convert_to_tensor:
            import torch

            return torch.from_numpy(scores)[0] if one else torch.from_numpy(scores)
        return scores[0] if one else scores

    def _scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        positions: dict[str, list[int]] = {}
        for i, pair in enumerate(pairs):
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise BadInput(f"number {i} is not a pair of texts", remedy="give (query, document) pairs")
            positions.setdefault(pair[0], []).append(i)
        for places in positions.values():
            places.sort(key=lambda i: sha256_of_text(pairs[i][1]))
        batch = [
            Candidates(Query(str(n), query), tuple(Passage(str(i), pairs[i][1]) for i in places))
            for n, (query, places) in enumerate(positions.items())
        ]
        scores = np.empty(len(pairs), dtype=np.float32)
        for places, ranking in zip(positions.values(), self.ranker.rank_batch(batch), strict=True):
            scores[places] = scores_by_position(ranking)
        return scores
