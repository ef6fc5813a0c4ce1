"""The decoders' interface: their input, a batch of windows, and their output."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from perank.errors import BadInput
from perank.model import Batch, Origin, PERank, Prompt, PromptBatch
from perank.ranking.shared_prefix import PAYS, Prefixes, SharedPrefix
from perank.ranking.windows import SlidingQuery, Windows
from perank.records import Bill, Candidates, Ranking

Depth = int | Sequence[int] | None
"""How many ranks must be exact: one number for all windows, one per window, or None for full rankings."""


@dataclass(frozen=True, slots=True)
class Window:
    """A prompt with its N passages' embeddings [N, E], the number of ranks to decode, and the query's embedding [E].

    `ranks_N` are the passages' ranks in the first stage, from 0; `first_E` is the sum of the first stage's best.
    `prefix` is shared with the query's other windows.
    """

    prompt: Prompt
    vectors_NE: Tensor
    depth: int
    query_E: Tensor | None = None
    ranks_N: Tensor | None = None
    first_E: Tensor | None = None
    prefix: SharedPrefix | None = None

    @property
    def known(self) -> Tensor | None:
        """Keys and values of the prompt's first tokens if another window has read them."""
        return None if self.prefix is None else self.prefix.known(self.prompt)

    @property
    def cost(self) -> tuple[int, int]:
        """Tokens to read and of the ranking."""
        known = self.known
        return len(self.prompt) - (0 if known is None else known.shape[1]), len(self.vectors_NE)


class EmbeddedQuery(SlidingQuery):
    """A query on its way through its windows, with its passages' and query's embeddings, [N, E] and [E].

    For models that use the first stage: `ranks_N` of the passages in it, and the sum of its best ones' embeddings.
    A candidate's score is the one before the first rank of the last window that it was in. Windows share the beginning
    of their prompts if it is at least `least_shared` of a prompt.
    """

    vectors_NE: Tensor
    query_E: Tensor | None
    ranks_N: Tensor | None = None
    first_E: Tensor | None = None
    calibration: Callable[[Sequence[float]], tuple[float, ...]] | None = None  # scores -> probabilities
    prefix: SharedPrefix | None = None
    least_shared: float = PAYS

    def __init__(self, candidates: Candidates, windows: Windows) -> None:
        super().__init__(candidates, windows)
        self.scores_N = np.full(len(candidates), -np.inf)
        self.prompts: dict[int, Prompt] = {}  # by number of passages: most windows have the same

    def window(self, build: Callable[[str, int], Prompt]) -> Window:
        """The next window; `build` makes the prompt of a query and a number of passages."""
        positions, span = self.positions, self.spans[0]
        prompt = self.prompts[span.size] = self.prompts.get(span.size) or build(self.text, span.size)
        ranks_N = None if self.ranks_N is None else self.ranks_N[positions]
        if self.prefix is None and len(self.spans) > 1:
            self.prefix = SharedPrefix.of(prompt, self.least_shared)
        vectors_NE = self.vectors_NE[positions]
        return Window(prompt, vectors_NE, span.depth, self.query_E, ranks_N, self.first_E, self.prefix)

    def settle(self, ranking: Sequence[int], cost: Bill, scores: Sequence[float] = ()) -> None:
        """Apply the current window's ranking, and note the scores of its candidates."""
        if scores:
            self.scores_N[self.positions] = scores
        super().settle(ranking, cost)
        if not self.spans:
            self.prefix = None  # frees its keys and values

    def ranking(self) -> Ranking:
        """The final ranking with its scores, never increasing; a candidate that no window had has the lowest."""
        ranking = super().ranking()
        if not np.isfinite(self.scores_N).any():
            return ranking
        known_N = np.maximum(self.scores_N, self.scores_N[np.isfinite(self.scores_N)].min())
        raw = never_increasing(known_N[list(ranking.order)])
        return replace(ranking, raw=raw, probabilities=self.calibration(raw) if self.calibration else ())


def never_increasing(scores_N: np.ndarray) -> tuple[float, ...]:
    """Each score becomes the mean of the lowest up to it and the highest from it on; ordered scores stay."""
    lowest_N, highest_N = np.minimum.accumulate(scores_N), np.maximum.accumulate(scores_N[::-1])[::-1]
    return tuple(((lowest_N + highest_N) / 2).tolist())


@dataclass(frozen=True)
class WindowBatch(Batch):
    """B windows to be ranked together; N is the size of the largest.

    `vectors_BNE` are the passages' embeddings in prompt order; `candidates_BN` is False at padding. `query_BE` are the
    queries' embeddings and `origin` the windows' place in the first stage, for models that use them. `prefixes` are
    what their prompts share with other windows.
    """

    prompts: PromptBatch
    vectors_BNE: Tensor
    candidates_BN: Tensor
    depth: Depth = None
    query_BE: Tensor | None = None
    origin: Origin | None = None
    prefixes: Prefixes = field(default_factory=Prefixes)

    @classmethod
    def of(cls, windows: Sequence[Window]) -> WindowBatch:
        """Stack windows of any sizes; either all or none have a query embedding, either all or none an origin."""
        sizes = torch.tensor([len(window.vectors_NE) for window in windows])
        queries = [window.query_E for window in windows if window.query_E is not None]
        return cls(
            PromptBatch.of([window.prompt for window in windows]),
            pad_sequence([window.vectors_NE for window in windows], batch_first=True),
            torch.arange(int(sizes.max())) < sizes[:, None],
            [window.depth for window in windows],
            torch.stack(queries) if queries else None,
            _origin(windows),
            Prefixes([window.prefix for window in windows], [window.known for window in windows]),
        )

    @cached_property
    def counts(self) -> list[int]:
        """Passages per window."""
        counts: list[int] = self.candidates_BN.sum(1).tolist()
        return counts

    @property
    def starts(self) -> list[int]:
        """The first token to read of each window's prompt."""
        return self.prefixes.starts or [0] * len(self.candidates_BN)

    @cached_property
    def depths(self) -> list[int]:
        """Ranks to decode per window, at most its size. Raises `BadInput` for a negative depth."""
        counts, depth = self.counts, self.depth
        wanted = counts if depth is None else [depth] * len(counts) if isinstance(depth, int) else list(depth)
        if len(wanted) != len(counts) or min(wanted, default=0) < 0:
            remedy = "give one number from 0 on, or one per window"
            raise BadInput(f"depth {depth} for {len(counts)} windows", remedy=remedy)
        return [min(k, n) for k, n in zip(wanted, counts, strict=True)]

    @property
    def steps(self) -> list[int]:
        """Ranks decided by scores per window: its depth, without the last passage, which is forced."""
        return [min(k, max(n - 1, 0)) for k, n in zip(self.depths, self.counts, strict=True)]


def _origin(windows: Sequence[Window]) -> Origin | None:
    ranks = [window.ranks_N for window in windows if window.ranks_N is not None]
    first = [window.first_E for window in windows if window.first_E is not None]
    return Origin(pad_sequence(ranks, batch_first=True), torch.stack(first)[:, None]) if ranks and first else None


@dataclass(frozen=True, slots=True)
class Decoded:
    """B rankings and the cost of each, as if decoded alone. Seconds are the whole batch's.

    `orders[b]` is a permutation of row b's candidates: prompt positions, best first; the first `depth` ranks are those
    of greedy decoding, the rest follows the last step's scores. `margins[b][i]` is the score difference of rank i to
    the next best candidate; rounding can change the choice only if it is small. `first_scores[b]` are the scores before
    the first rank by prompt position, empty if nothing was scored; a decoder without scores leaves the list empty.
    """

    orders: list[tuple[int, ...]]
    forwards: list[int]
    tokens_processed: list[int]
    tokens_generated: list[int]
    margins: list[tuple[float, ...]]
    seconds_prefill: float
    seconds_decode: float
    first_scores: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def bills(self) -> list[Bill]:
        """The cost of each window, with its share of the seconds in proportion to tokens processed."""
        processed = sum(self.tokens_processed) or 1
        return [
            Bill(
                forwards=self.forwards[b],
                tokens_processed=tokens,
                tokens_generated=self.tokens_generated[b],
                seconds_prefill=self.seconds_prefill * tokens / processed,
                seconds_decode=self.seconds_decode * tokens / processed,
            )
            for b, tokens in enumerate(self.tokens_processed)
        ]


class Decoder(Protocol):
    """Decodes B windows into rankings."""

    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """Rank each window independently. Exact ties go to the lower prompt position."""
        ...


def best_first(scores_BN: Tensor, open_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Return order_BN, open candidates by score (ties by position) before all others, and margin_B, first minus second.

    The margin is infinite if there is no second.
    """
    sorted_BN, order_BN = scores_BN.masked_fill(~open_BN, -torch.inf).sort(dim=1, descending=True, stable=True)
    if scores_BN.shape[1] < 2:
        return order_BN, scores_BN.new_full((len(scores_BN),), torch.inf)
    return order_BN, sorted_BN[:, 0] - sorted_BN[:, 1]


class Clock:
    """Wall seconds between laps, after synchronising the accelerator."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.began = self._now()

    def lap(self) -> float:
        """Seconds since the last lap."""
        began, self.began = self.began, self._now()
        return self.began - began

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
