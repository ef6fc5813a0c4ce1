"""The cheap approximation: one forward, the first step's scores sorted. Not Algorithm 1's ranking.

It leaves out what listwise decoding is for: ranks 2 to n don't see what was ranked above them.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from perank.model.batches import PromptBatch
from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Decoded, Depth, depths


class SinglePass:
    """An approximation of `Constrained` whose first rank alone is exact, whatever depth is asked for."""

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
        _, wanted = depths(candidates_BN, depth)
        first = Constrained().decode(
            model, prompts, vectors_BNE, candidates_BN, depth=[min(k, 1) for k in wanted], query_BE=query_BE
        )
        return replace(first, tokens_generated=wanted)
