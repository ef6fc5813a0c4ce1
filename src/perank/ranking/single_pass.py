"""The cheap approximation: one forward, the first step's scores sorted. Not Algorithm 1's ranking.

It leaves out what listwise decoding is for: ranks 2 to n don't see what was ranked above them.
"""

from __future__ import annotations

from dataclasses import replace

from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Decoded, WindowBatch


class SinglePass:
    """An approximation of `Constrained` whose first rank alone is exact, whatever depth is asked for."""

    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises what `Constrained.decode` raises."""
        first = replace(windows, depth=[min(k, 1) for k in windows.depths])
        return replace(Constrained().decode(model, first), tokens_generated=windows.depths)
