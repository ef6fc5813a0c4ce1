"""Tokens, FLOPs, steps and hours of a run. All of the arithmetic is here.

A product of a token with a matrix of P numbers costs 2 P FLOPs; causal attention over L tokens costs 2 L^2 times the
queries' width, in each layer. The backward pass costs as much again for what flows through, and once more for the
gradients of what trains; layers that are computed again cost their forward pass twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perank.planning.composition import ADAPTERS, LAYERS, Parallelism, ParameterGroup, StepShape, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Of one optimizer step on all GPUs, and how many there are (None: the config doesn't say how many rows)."""

    rows: int
    tokens: int
    flops: float
    steps: int | None

    def hours(self, setup: Parallelism, tflops: float, utilisation: float) -> float | None:
        """Wall-clock hours of all steps at that share of the GPUs' peak."""
        if self.steps is None:
            return None
        return self.steps * self.flops / (setup.gpus * tflops * 1e12 * utilisation) / 3600


def work(
    parts: Sequence[ParameterGroup], shape: StepShape, setup: Parallelism, *, rows: int | None, epochs: int
) -> Work:
    """What a step is made of. Rows that don't fill a last micro-batch on every GPU are left out, as in training."""
    micro = shape.rows * setup.gpus
    batches = None if rows is None else epochs * rows // micro
    return Work(
        rows=micro * setup.accumulate,
        tokens=shape.tokens * setup.gpus * setup.accumulate,
        flops=micro_batch_flops(parts, shape) * setup.gpus * setup.accumulate,
        steps=None if batches is None else -(-batches // setup.accumulate),
    )


def micro_batch_flops(parts: Sequence[ParameterGroup], shape: StepShape) -> float:
    """One GPU's forward and backward pass. The projector's few vectors a row count for nothing."""
    used = [part for part in parts if part.name in (LAYERS, ADAPTERS)]
    head = shape.logits * shape.width
    products = 2 * (total(used, "matrices") + head) * shape.tokens
    attention = sum(2 * length**2 * shape.queries * shape.layers * shape.rows for length in shape.lengths)
    forward = products + attention
    gradients = 2 * total(used, "trained_matrices") * shape.tokens + attention  # of both sides of Q K^T and A V
    last = 2 * shape.inner * shape.width * shape.layers * shape.tokens  # nothing waits for a layer's last product
    again = 2 * total(used, "matrices") * shape.tokens + attention - last if shape.checkpointing else 0
    return forward + forward + gradients + again
