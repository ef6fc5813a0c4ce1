"""Algorithm 1, dynamic-constrained decoding, as printed plus a KV cache: the reference for the faster decoders.

One forward per rank: the chosen passage's projected vector is fed back, and h_i is multiplied with the N projected
vectors, never with the vocabulary. The last passage is forced, so n candidates take n - 1 forwards; `depth` ranks of
them take `depth`. Ranks beyond `depth` follow the last step's scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from perank.model.pe_rank import PERank
from perank.ranking.decoder import Clock, Decoded, WindowBatch, best_first
from perank.ranking.reader import Reader


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
        clock, prefilled = Clock(windows.vectors_BNE.device), 0.0
        open_BN = windows.candidates_BN.clone()
        order_BN, _ = best_first(torch.zeros(open_BN.shape, device=open_BN.device), open_BN)
        margin_BN = torch.full(order_BN.shape, torch.inf, device=order_BN.device)
        if any(steps):
            reader = self.reader(model, windows, ranks=max(steps) - 1)
            scores_BN = reader.read()
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
            tokens_processed=[length + s - 1 if s else 0 for length, s in zip(lengths, steps, strict=True)],
            tokens_generated=windows.depths,
            margins=[tuple(row[:s]) for row, s in zip(margin_BN.tolist(), steps, strict=True)],
            seconds_prefill=prefilled,
            seconds_decode=clock.lap(),
        )
