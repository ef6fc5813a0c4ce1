"""`Auto`: the fastest exact decoder for a model on its device."""

from __future__ import annotations

from torch import Tensor

from perank.model.batches import PromptBatch
from perank.model.pe_rank import PERank
from perank.ranking.decoder import Decoded, Depth
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from perank.ranking.static.lean import can_be_lean


class Auto:
    """`Static` on a GPU, which then launches whole forwards, and where its layers can run fused; else `Speculative`.

    On a CPU fixed buffers alone are 2 to 4 % slower than speculation, fused layers 7 to 13 % faster (`benchmarks/`).
    """

    def __init__(self) -> None:
        self.static, self.speculative = Static(), Speculative()

    def decode(
        self,
        model: PERank,
        prompts: PromptBatch,
        vectors_BNE: Tensor,
        candidates_BN: Tensor,
        *,
        depth: Depth = None,
        query_BE: Tensor | None = None,
    ) -> Decoded:
        """See `Decoder.decode`. Raises what `Constrained.decode` raises."""
        fast = vectors_BNE.device.type == "cuda" or can_be_lean(model)
        decoder = self.static if fast else self.speculative
        return decoder.decode(model, prompts, vectors_BNE, candidates_BN, depth=depth, query_BE=query_BE)
