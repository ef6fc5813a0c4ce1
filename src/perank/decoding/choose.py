"""Decoders by the names users and configs know them by."""

from __future__ import annotations

from perank.decoding.constrained import Constrained
from perank.decoding.decoded import Decoder
from perank.decoding.single_pass import SinglePass
from perank.decoding.speculative import Speculative
from perank.errors import BadInput


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
