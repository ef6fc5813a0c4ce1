"""Algorithm 1, dynamic-constrained decoding, as printed plus a KV cache: the reference for the faster decoders.

One forward per rank: the chosen passage's projected vector is fed back, and h_i is multiplied with the N projected
vectors, never with the vocabulary. The last passage is forced, so n candidates take n - 1 forwards; `depth` ranks of
them take `depth`. Ranks beyond `depth` follow the last step's scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model import PERank
from perank.ranking.decoder import Clock, Decoded, WindowBatch, best_first
from perank.ranking.reader import Reader
from perank.ranking.trail import Trail


class Scores(Protocol):
    """Scores of all candidates, before the first rank and after each."""

    def read(self) -> Tensor:
        """scores_BN before the first rank."""
        ...

    def feed(self, chosen_B: Tensor) -> Tensor:
        """Append one rank per row and return scores_BN after it."""
        ...

    def check(self) -> None:
        """Raise `BadInput` if a score overflowed."""
        ...


class Constrained:
    """Greedy decoding over the remaining candidates; finished rows wait for the longest.

    `reader` returns the scores of windows, called as `Reader` is.
    """

    def __init__(self, reader: Callable[..., Scores] = Reader) -> None:
        self.reader = reader

    @torch.no_grad()
    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises `BadInput` for non-finite scores and LLMs that `KVCache` doesn't support."""
        steps, lengths = windows.steps, windows.prompts.length_B.tolist()
        read = [length - start for length, start in zip(lengths, windows.starts, strict=True)]
        clock, prefilled = Clock(windows.vectors_BNE.device), 0.0
        open_BN = windows.candidates_BN.clone()
        order_BN, _ = best_first(torch.zeros(open_BN.shape, device=open_BN.device), open_BN)
        margin_BN = torch.full(order_BN.shape, torch.inf, device=order_BN.device)
        first_BN = open_BN[:, :0]
        if any(steps):
            reader = self.reader(model, windows, ranks=max(steps) - 1)
            first_BN = scores_BN = reader.read()
            prefilled = clock.lap()
            steps_B1 = torch.tensor(steps, device=order_BN.device)[:, None]
            for step in range(max(steps)):
                ranked_BN, margin_BN[:, step] = best_first(scores_BN, open_BN)
                ranked_BN = ranked_BN[:, : order_BN.shape[1] - step]
                order_BN[:, step:] = torch.where(step < steps_B1, ranked_BN, order_BN[:, step:])
                open_BN.scatter_(1, ranked_BN[:, :1], False)
                if step + 1 < max(steps):
                    scores_BN = reader.feed(ranked_BN[:, 0])
            reader.check()
        return Decoded(
            orders=[tuple(row[:n]) for row, n in zip(order_BN.tolist(), windows.counts, strict=True)],
            forwards=steps,
            tokens_processed=[tokens + s - 1 if s else 0 for tokens, s in zip(read, steps, strict=True)],
            tokens_generated=windows.depths,
            margins=[tuple(row[:s]) for row, s in zip(margin_BN.tolist(), steps, strict=True)],
            seconds_prefill=prefilled,
            seconds_decode=clock.lap(),
            first_scores=[tuple(row[:n]) for row, n in zip(first_BN.tolist(), windows.counts, strict=True)],
        )


class SinglePass:
    """An approximation of `Constrained` in one forward: candidates sorted by the first step's scores, for any depth.

    Ranks 2 to n don't depend on what was ranked above them, so the benefit of listwise decoding is lost.
    """

    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises what `Constrained.decode` raises."""
        first = replace(windows, depth=[min(k, 1) for k in windows.depths])
        return replace(Constrained().decode(model, first), tokens_generated=windows.depths)


class AnchorsAlone:
    """The baseline that shows what the LLM adds. Bills count no forwards and no tokens.

    It returns no scores: a calibration is fitted on those of the whole model.
    """

    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises `BadInput` for a model without anchors."""
        decoded = Constrained(_AnchorReader).decode(model, windows)
        nothing = [0] * len(decoded.orders)
        return replace(decoded, forwards=nothing, tokens_processed=nothing, first_scores=[])


class _AnchorReader:
    """The part of `Reader` that `Constrained` uses."""

    def __init__(self, model: PERank, windows: WindowBatch, *, ranks: int) -> None:
        if model.anchors is None:
            raise BadInput("this model has no anchors", remedy="choose another decoding")
        self.score = model.anchors.score
        wide = torch.promote_types(windows.vectors_BNE.dtype, torch.float32)
        self.vectors_BNE, self.query_BE = windows.vectors_BNE.to(wide), windows.query_BE
        self.trail = Trail(model, self.vectors_BNE, windows.origin)

    def read(self) -> Tensor:
        """scores_BN of the first step."""
        return self.score(self.vectors_BNE, self.query_BE, self.trail.origin)[:, 0]

    def feed(self, chosen_B: Tensor) -> Tensor:
        """scores_BN after one more rank per row."""
        return self.score(self.vectors_BNE, self.query_BE, self.trail.add(chosen_B))[:, 0]

    def check(self) -> None:
        """The anchors' scores are finite."""
