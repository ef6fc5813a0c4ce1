"""CUDA graphs of an engine's two functions: captured once per bucket, then replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from perank.ranking.static.engine import Engine

_EAGER_CALLS = 2  # before a function is captured: libraries allocate and tune at their first calls

Launch = Callable[[], object]


class ReplayedEngine(Engine):
    """An `Engine` whose functions are captured at their third call and replayed afterwards; `prefill` for each start.

    It runs eagerly under autocast, whose cache of cast weights a graph can't capture, and if capturing fails.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.calls: dict[str, int] = {}
        self.launches: dict[str, Launch] = {}

    def prefill(self, starts: Sequence[int] = (0,)) -> None:
        """See `Engine.prefill`."""
        start = min(starts)
        prefill = super().prefill
        self._call(f"prefill from {start}", lambda: prefill((start,)))

    def step(self) -> None:
        """See `Engine.step`."""
        self._call("step", super().step)

    def _call(self, name: str, function: Launch) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name not in self.launches and self.calls[name] > _EAGER_CALLS and not torch.is_autocast_enabled("cuda"):
            self.launches[name] = captured(function)
        self.launches.get(name, function)()


def captured(function: Launch) -> Launch:
    """Capture `function` without running it and return the replay; return `function` if it can't be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            function()
    except RuntimeError:
        torch.cuda.synchronize()
        return function
    return graph.replay
