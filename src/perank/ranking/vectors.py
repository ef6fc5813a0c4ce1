"""Get and validate the input vectors of a ranking: from a store, the user, or the encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.records import Candidates, Vectors


def given_vectors(values: Any, width: int, *, count: int | None = None, of: str = "passage") -> Tensor:
    """Convert the user's vectors (arrays, tensors or nested lists) to fp32 [N, E] on the CPU.

    Raises `BadInput` for a vector that is not finite or not of unit length (as the encoder's are), with its position,
    and for an unexpected width or number of vectors.
    """
    try:
        with np.errstate(over="ignore"):  # beyond fp32: refused below as not finite
            vectors_NE = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values, dtype=np.float32))
    except (TypeError, ValueError) as error:
        problem = f"the {of} vectors are no [N, {width}] array: {error}"
        raise BadInput(problem, remedy="give every passage one vector of that width") from error
    vectors_NE = vectors_NE.detach().float().cpu()
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
    if there is not None and here is not None and there != here:
        parts = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        found = "; ".join(f"{key}: {there.get(key)!r} there, {here.get(key)!r} here" for key in parts)
        problem = f"the store holds another encoder's vectors ({found})"
        raise BadInput(problem, remedy="use the encoder that filled the store, or encode into another folder")
