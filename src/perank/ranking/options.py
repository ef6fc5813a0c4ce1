"""The options of `Reranker`: decoders by name, and checks that need no model."""

from __future__ import annotations

import math
from typing import Any

from perank.errors import BadInput
from perank.model import PERank
from perank.ranking.constrained import AnchorsAlone, Constrained, SinglePass
from perank.ranking.decoder import Decoded, Decoder, WindowBatch
from perank.ranking.inputs import whole_number
from perank.ranking.shared_prefix import PAYS
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from perank.ranking.static.lean import can_be_lean
from perank.ranking.windows import Windows


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


def decoder_named(name: str) -> Decoder:
    """Return the decoder of that name, as listed in `Reranker`. Raises `BadInput` for another name."""
    match name:
        case "constrained":
            return Constrained()
        case "speculative":
            return Speculative()
        case "static":
            return Static()
        case "auto":
            return Auto()
        case "single_pass":
            return SinglePass()
        case "anchors":
            return AnchorsAlone()
    known = "auto, speculative, static, constrained, single_pass or anchors"
    raise BadInput(f"unknown decoder {name!r}", remedy=f"choose {known}")


def checked_options(
    windows: Any = None,
    decoder: Any = "speculative",
    batch_tokens: Any = None,
    chunk: Any = None,
    share_prefix: Any = None,
) -> tuple[Windows, Decoder, int | None, int | None, float]:
    """The options of `Reranker`, with defaults and the decoder itself. Raises `BadInput` for an unusable one.

    The last is the share of a prompt from which on windows share its beginning.
    """
    windows = windows or Windows()
    if not isinstance(windows, Windows):
        raise BadInput(f"windows is {windows!r}", remedy="give a perank.ranking.windows.Windows")
    made = decoder_named(decoder) if isinstance(decoder, str) else decoder
    if not hasattr(made, "decode"):
        raise BadInput(f"the decoder is {decoder!r}", remedy="give a name or an object with a method `decode`")
    numbers = {"batch_tokens": batch_tokens, "chunk": chunk}
    counts = [None if value is None else whole_number(value, name, least=1) for name, value in numbers.items()]
    if share_prefix not in (None, False, True):
        raise BadInput(f"share_prefix is {share_prefix!r}", remedy="give true, false or null")
    least = PAYS if share_prefix is None else 0.0 if share_prefix else math.inf
    return windows, made, counts[0], counts[1], least
