"""A cheap approximation of Algorithm 1: one forward, sorting by the first step's scores.

Ranks 2 to n don't depend on what was ranked above them, so the benefit of listwise decoding is lost.
"""

from __future__ import annotations

from dataclasses import replace

from perank.model import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Decoded, WindowBatch


class SinglePass:
    """An approximation of `Constrained` in which only the first rank is exact, for any depth."""

    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises what `Constrained.decode` raises."""
        first = replace(windows, depth=[min(k, 1) for k in windows.depths])
        return replace(Constrained().decode(model, first), tokens_generated=windows.depths)
