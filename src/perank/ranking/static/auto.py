"""`Auto`: the fastest exact decoder for a model on its device."""

from __future__ import annotations

from perank.model import PERank
from perank.ranking.decoder import Decoded, WindowBatch
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from perank.ranking.static.lean import can_be_lean


class Auto:
    """`Static` on a GPU (it replays whole forwards) and for layers that can be fused; else `Speculative`.

    On a CPU with the packaged model, fixed buffers alone took 3 to 4 % longer than `Speculative`, with fused layers 5
    to 11 % less.
    """

    def __init__(self) -> None:
        self.static, self.speculative = Static(), Speculative()

    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises what `Constrained.decode` raises."""
        fast = windows.vectors_BNE.device.type == "cuda" or can_be_lean(model)
        return (self.static if fast else self.speculative).decode(model, windows)
