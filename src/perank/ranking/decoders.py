"""Decoders by the names users and configs know them by."""

from __future__ import annotations

from perank.errors import BadInput
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Decoder
from perank.ranking.single_pass import SinglePass
from perank.ranking.speculative import Speculative


def named(name: str) -> Decoder:
    """`constrained`, `speculative` or `single_pass`. Raises `BadInput` for another name."""
    match name:
        case "constrained":
            return Constrained()
        case "speculative":
            return Speculative()
        case "single_pass":
            return SinglePass()
    raise BadInput(f"unknown decoder {name!r}", remedy="choose speculative, constrained or single_pass")
