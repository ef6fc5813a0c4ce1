"""What the machine can do at best, measured in the same run, and how long that would make a phase of reranking.

A forward can't take less than reading the LLM's weights once (bytes / bandwidth), nor less than its multiplications
(2 x parameters x tokens / peak). Attention, norms, the projector and the scores are left out: the limit is a floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perank.model.pe_rank import PERank
from perank.ranking.decoder import Clock


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes read per second, and multiply-adds' FLOPs per second in the LLM's number type."""

    bandwidth: float
    peak: float

    @classmethod
    def measured(cls, device: torch.device, dtype: torch.dtype) -> Limits:
        """The best of several reads of 256 MiB (2 GiB on a GPU), and of products of square matrices."""
        on_cpu = device.type == "cpu"
        read = torch.ones(2**26 if on_cpu else 2**29, device=device)
        size = 1536 if on_cpu else 8192
        square = torch.randn(size, size, device=device).to(dtype)
        return cls(
            bandwidth=read.nbytes / _best(read.sum, device),
            peak=2 * size**3 / _best(lambda: square @ square, device),
        )

    def least_seconds(self, model: PERank, forwards: int, tokens: int) -> float:
        """The floor of so many forwards that process so many tokens between them, without the vocabulary."""
        weights = matrices(model)
        number = sum(weight.numel() for weight in weights)
        reading = forwards * sum(weight.nbytes for weight in weights) / self.bandwidth
        return max(reading, 2 * number * tokens / self.peak)

    def __str__(self) -> str:
        return f"{self.bandwidth / 1e9:.1f} GB/s, {self.peak / 1e9:.0f} GFLOP/s"


def matrices(model: Any) -> list[Tensor]:
    """The weights that every token is multiplied with: the decoder's matrices but for the embedding table."""
    table = model.llm.get_input_embeddings().weight
    return [weight for weight in model.decoder.parameters() if weight.ndim == 2 and weight is not table]


def _best(work: Callable[[], object], device: torch.device, repeats: int = 7) -> float:
    clock, seconds = Clock(device), []
    for _ in range(repeats):
        work()
        seconds.append(clock.lap())
    return min(seconds)
