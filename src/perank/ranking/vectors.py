"""Get and validate the input vectors of a ranking: from a store, the user, or the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.ranking.windows import SlidingQuery, Windows
from perank.records import Bill, Candidates, Ranking, Vectors, differing


class EmbeddedQuery(SlidingQuery):
    """A `SlidingQuery` with its passages' and query's embeddings, [N, E] and [E].

    `first_E` is the sum of the embeddings of the first stage's best passages, for models that use it. A candidate's
    score is the one before the first rank of the last window that it was in.
    """

    vectors_NE: Tensor
    query_E: Tensor | None
    first_E: Tensor | None = None

    def __init__(self, candidates: Candidates, windows: Windows) -> None:
        super().__init__(candidates, windows)
        self.scores_N = np.full(len(candidates), -np.inf)

    def settle(self, ranking: Sequence[int], cost: Bill, scores: Sequence[float] = ()) -> None:
        """Apply the current window's ranking, and note the scores of its candidates."""
        if scores:
            self.scores_N[self.positions] = scores
        super().settle(ranking, cost)

    def ranking(self) -> Ranking:
        """The final ranking with its scores, never increasing; a candidate that no window had has the lowest."""
        ranking = super().ranking()
        if not np.isfinite(self.scores_N).any():
            return ranking
        known_N = np.maximum(self.scores_N, self.scores_N[np.isfinite(self.scores_N)].min())
        return replace(ranking, raw=never_increasing(known_N[list(ranking.order)]))


def never_increasing(scores_N: np.ndarray) -> tuple[float, ...]:
    """Each score becomes the mean of the lowest up to it and the highest from it on; ordered scores stay."""
    lowest_N, highest_N = np.minimum.accumulate(scores_N), np.maximum.accumulate(scores_N[::-1])[::-1]
    return tuple(((lowest_N + highest_N) / 2).tolist())


def given_vectors(values: Any, width: int, *, count: int | None = None, of: str = "passage") -> Tensor:
    """Convert the user's vectors (arrays, tensors or nested lists) to fp32 [N, E] on the CPU.

    Raises `BadInput` for a vector that is not finite or not of unit length (as the encoder's are), with its position,
    and for an unexpected width or number of vectors.
    """
    try:
        vectors_NE = _as_tensor(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        problem = f"the {of} vectors are no [N, {width}] array: {error}"
        raise BadInput(problem, remedy="give every passage one vector of that width") from error
    if vectors_NE.numel() == 0 and len(vectors_NE) == 0:
        vectors_NE = vectors_NE.reshape(0, width)
    if vectors_NE.ndim != 2 or vectors_NE.shape[1] != width:
        problem = f"{of} vectors of shape {list(vectors_NE.shape)}, expected [N, {width}]"
        raise BadInput(problem, remedy="use the encoder this model was trained with")
    if count is not None and len(vectors_NE) != count:
        raise BadInput(f"{len(vectors_NE)} {of} vectors for {count}", remedy="give every passage exactly one vector")
    norm_N = vectors_NE.norm(dim=1)
    for position in (~torch.isclose(norm_N, torch.ones_like(norm_N), rtol=0, atol=1e-2)).nonzero()[:1, 0].tolist():
        finite = bool(vectors_NE[position].isfinite().all())
        problem = f"has length {float(norm_N[position]):.4g}, expected 1" if finite else "is not finite"
        raise BadInput(
            f"{of} vector number {position} (from 0) {problem}",
            remedy="divide by its length" if finite else "encode that passage again",
        )
    return vectors_NE


def _as_tensor(values: Any) -> Tensor:
    """Convert to a dense fp32 tensor on the CPU. Raises what numpy and torch raise for values that can't be."""
    if isinstance(values, Iterator):
        values = list(values)
    if isinstance(values, list | tuple) and values and all(isinstance(value, Tensor) for value in values):
        values = torch.stack(list(values))
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        with np.errstate(over="ignore"):  # infinity is refused with its position
            values = torch.from_numpy(array if np.iscomplexobj(array) else np.array(values, dtype=np.float32))
    if values.is_complex() or values.layout is not torch.strided:
        raise TypeError("complex or sparse numbers")
    return values.detach().float().cpu()


def candidate_vectors(candidates: Candidates, encoder: Any, store: Vectors | None) -> Tensor:
    """Return fp32 [N, E] on the CPU: from the store by passage id if given, else encode each passage once.

    Raises `BadInput` without store and encoder, and for a vector that is not finite.
    """
    if store is not None:
        found = store.get([passage.id for passage in candidates.passages])
        vectors_NE = torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
    elif encoder is None:
        raise BadInput("no encoder and no vectors", remedy="give passage_embeddings, a store or an encoder")
    else:
        vectors_NE = torch.as_tensor(encoder.encode_passages([passage.contents for passage in candidates.passages]))
    for position in (~vectors_NE.isfinite().all(1)).nonzero()[:1, 0].tolist():
        problem = f"passage vector number {position} (from 0) is not finite"
        raise BadInput(problem, remedy="encode that passage again", id=candidates.passages[position].id)
    return vectors_NE


def check_store(store: object, encoder: object) -> None:
    """Raise `BadInput` if store and encoder both declare the identity of their vectors and these differ."""
    there, here = getattr(store, "identity", None), getattr(encoder, "identity", None)
    parts = differing(there, here) if there is not None and here is not None else []
    if there is not None and here is not None and parts:
        found = "; ".join(f"{key}: {there.get(key)!r} there, {here.get(key)!r} here" for key in parts)
        problem = f"the store holds another encoder's vectors ({found})"
        raise BadInput(problem, remedy="use the encoder that filled the store, or encode into another folder")
