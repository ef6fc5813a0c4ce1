"""Tokens, FLOPs, steps and hours of a run.

Multiplying a token by a matrix of P numbers costs 2 P FLOPs; causal attention over L tokens costs 2 L^2 times the
queries' width per layer. The backward pass costs as much for the gradients of activations, and as much again for those
of trained weights. With checkpointing, a layer's forward pass runs twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perank.planning.composition import ADAPTERS, LAYERS, Parallelism, ParameterGroup, StepShape, total

WAITING = 0.135  # seconds per micro-batch in which a GPU waits for its host: what makes small models slow
SOURCES = {
    "utilisation while computing": "assumed: no run at this scale has measured it",
    "0.135 s per micro-batch": "experiments/box on one H200: 6.7 steps/s of 4.98e12 FLOPs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work of one optimizer step on all GPUs; `steps` is None if the number of rows is unknown."""

    rows: int
    tokens: int
    flops: float
    steps: int | None

    def hours(self, setup: Parallelism, tflops: float, utilisation: float) -> float | None:
        """Wall-clock hours of all steps at this utilisation of the GPUs' peak, and `WAITING` per micro-batch."""
        return None if self.steps is None else self.steps * self.seconds(setup, tflops, utilisation) / 3600

    def seconds(self, setup: Parallelism, tflops: float, utilisation: float) -> float:
        """Seconds of one optimizer step."""
        return self.flops / (setup.gpus * tflops * 1e12 * utilisation) + WAITING * setup.accumulate


def work(
    parts: Sequence[ParameterGroup], shape: StepShape, setup: Parallelism, *, rows: int | None, epochs: int
) -> Work:
    """Compute the work of a step. As in training, rows that don't fill a micro-batch on every GPU are dropped."""
    micro = shape.rows * setup.gpus
    batches = None if rows is None else epochs * rows // micro
    return Work(
        rows=micro * setup.accumulate,
        tokens=shape.tokens * setup.gpus * setup.accumulate,
        flops=micro_batch_flops(parts, shape) * setup.gpus * setup.accumulate,
        steps=None if batches is None else -(-batches // setup.accumulate),
    )


def micro_batch_flops(parts: Sequence[ParameterGroup], shape: StepShape) -> float:
    """FLOPs of one GPU's forward and backward pass, without the projector's, which are negligible."""
    used = [part for part in parts if part.name in (LAYERS, ADAPTERS)]
    head = shape.logits * shape.width
    products = 2 * (total(used, "matrices") + head) * shape.tokens
    attention = sum(2 * length**2 * shape.queries * shape.layers * shape.rows for length in shape.lengths)
    forward = products + attention
    gradients = 2 * total(used, "trained_matrices") * shape.tokens + attention  # of both factors of Q K^T and A V
    last = 2 * shape.inner * shape.width * shape.layers * shape.tokens  # a layer's last product isn't recomputed
    again = 2 * total(used, "matrices") * shape.tokens + attention - last if shape.checkpointing else 0
    return forward + forward + gradients + again
