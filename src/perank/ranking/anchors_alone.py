"""The ranking of the anchors without the LLM: Algorithm 1 on their scores, without any forward."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.anchors import Anchors
from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Decoded, WindowBatch
from perank.ranking.trail import Trail


class AnchorsAlone:
    """The baseline that shows what the LLM adds. Bills count no forwards and no tokens."""

    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises `BadInput` for a model without anchors."""
        decoded = Constrained(_Reader).decode(model, windows)
        nothing = [0] * len(decoded.orders)
        return replace(decoded, forwards=nothing, tokens_processed=nothing)


class _Reader:
    """The part of `Reader` that `Constrained` uses."""

    def __init__(self, model: PERank, windows: WindowBatch, *, ranks: int) -> None:
        if model.anchors is None:
            raise BadInput("this model has no anchors", remedy="choose another decoding")
        self.anchors: Anchors = model.anchors
        wide = torch.promote_types(windows.vectors_BNE.dtype, torch.float32)
        self.vectors_BNE, self.query_BE = windows.vectors_BNE.to(wide), windows.query_BE
        self.trail = Trail(model, self.vectors_BNE, windows.origin)

    def read(self) -> Tensor:
        """scores_BN of the first step."""
        return self.anchors.score(self.vectors_BNE, self.query_BE, self.trail.origin)[:, 0]

    def feed(self, chosen_B: Tensor) -> Tensor:
        """scores_BN after one more rank per row."""
        return self.anchors.score(self.vectors_BNE, self.query_BE, self.trail.add(chosen_B))[:, 0]

    def check(self) -> None:
        """The anchors' scores are finite."""
