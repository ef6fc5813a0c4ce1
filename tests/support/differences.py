"""Where two decodings of the same windows part."""

from __future__ import annotations

from dataclasses import dataclass

from perank.ranking.decoder import Decoded


@dataclass(frozen=True, slots=True)
class Difference:
    """Row `row` of two decodings parts at rank `rank` (from 0), where the first one's best led by `margin`."""

    row: int
    rank: int
    margin: float


def differences(one: Decoded, other: Decoded) -> list[Difference]:
    """Where two decodings of the same windows decided otherwise: the first such rank of each row, with its margin.

    Ranks beyond the depth that was asked for don't count. What follows a first difference follows from it.
    """
    found = []
    for row, (mine, theirs) in enumerate(zip(one.orders, other.orders, strict=True)):
        for rank, margin in enumerate(one.margins[row]):
            if mine[rank] != theirs[rank]:
                found.append(Difference(row, rank, margin))
                break
    return found
