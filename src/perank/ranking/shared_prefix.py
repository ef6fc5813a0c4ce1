"""The tokens that the prompts of a query's windows begin with: read once, their keys and values copied afterwards.

A token's keys and values depend only on the tokens before it, so those of a common beginning are the same in all
windows. J is the number of layers, P of a prefix's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from perank.model import Prompt

PAYS = 0.1  # of a prompt's tokens: with fewer, copying and masks take as long as reading them would
MOST = 256  # queries that hold keys and values at a time: 2.7 GB for 80 tokens of Mistral-7B in bf16


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """The tokens before the first slot of a query's first window; `kv_JP2HW` once a decoder has read them.

    It stays None for layers whose keys and values differ in shape; their windows are read whole.
    """

    ids: tuple[int, ...]
    kv_JP2HW: Tensor | None = None

    @classmethod
    def of(cls, prompt: Prompt, least: float) -> SharedPrefix | None:
        """The tokens that later windows' prompts may begin with; None if they are fewer than `least` of the prompt."""
        ids = _before_slots(prompt)
        return cls(ids) if ids and len(ids) >= least * len(prompt) else None

    def tokens(self, prompt: Prompt) -> int:
        """How many tokens this prompt begins with are those of the prefix."""
        pairs = zip(self.ids, _before_slots(prompt), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def known(self, prompt: Prompt) -> Tensor | None:
        """Keys and values [J, P, 2, H, W] of the first tokens of this prompt; None if there are none."""
        shared = 0 if self.kv_JP2HW is None else self.tokens(prompt)
        return None if self.kv_JP2HW is None or not shared else self.kv_JP2HW[:, :shared]


def _before_slots(prompt: Prompt) -> tuple[int, ...]:
    slots = prompt.slots if prompt.query_slot is None else (*prompt.slots, prompt.query_slot)
    return prompt.ids[: min(slots)]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Those of B windows, each or all of which may have none; `known` are keys and values of their first tokens."""

    shared: Sequence[SharedPrefix | None] = ()
    known: Sequence[Tensor | None] = ()

    @property
    def starts(self) -> list[int]:
        """The first token to read of each prompt."""
        return [0 if kv_JP2HW is None else kv_JP2HW.shape[1] for kv_JP2HW in self.known]

    def rows(self, rows: slice) -> Prefixes:
        """Select windows."""
        return Prefixes(self.shared[rows], self.known[rows])

    def keep(self, kv_of: Callable[[int, int], Tensor | None]) -> None:
        """Keep for later windows what was just read: `kv_of` a row's first tokens, [J, P, 2, H, W]."""
        for row, prefix in enumerate(self.shared):
            if prefix is not None and prefix.kv_JP2HW is None:
                prefix.kv_JP2HW = kv_of(row, len(prefix.ids))
