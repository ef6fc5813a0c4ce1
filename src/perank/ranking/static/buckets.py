"""Which shapes serve which windows: few on a GPU, where each is captured, exact ones on a CPU, where padding costs."""

from __future__ import annotations

from dataclasses import replace

import torch

from perank.ranking.static.drafts import draft_size
from perank.ranking.static.state import Bucket

ROWS = 32  # windows that one set of buffers takes at most
_CPU_NODES, _CPU_TOGETHER = 12, 64  # as speculative.py: tokens that are nearly free, a row and all rows together
_GPU_NODES, _GPU_TOGETHER = 64, 256  # beyond 256 tokens a forward of 7B parameters is bound by products, not bytes
_LEVELS = 32  # deeper drafts are seldom right, and every level costs a dozen small operations


def bucket_for(
    device: torch.device, rows: int, prompt: int, passages: int, steps: int, *, query: bool, nodes: int | None = None
) -> Bucket:
    """The bucket of `rows` windows of at most `passages`, of whose ranks at most `steps` are decided.

    `nodes`: the draft tokens a row; None: what is nearly free beside reading the weights.
    """
    if device.type != "cpu":
        prompt, passages, steps = _up(prompt, 32), _up(passages, 20), _up(steps, 5)
    return smaller(Bucket(rows, prompt, passages, 1, steps - 1, 1, query), rows, device, nodes)


def smaller(bucket: Bucket, rows: int, device: torch.device, nodes: int | None = None) -> Bucket:
    """The bucket for so many rows of that one's windows: fewer rows have longer drafts."""
    most, together = (_CPU_NODES, _CPU_TOGETHER) if device.type == "cpu" else (_GPU_NODES, _GPU_TOGETHER)
    rows = rows if device.type == "cpu" else 1 << (rows - 1).bit_length()
    nodes = nodes or max(1, min(most, together // rows))
    levels = max(1, min(nodes, bucket.deepest, _LEVELS))
    return replace(bucket, rows=rows, nodes=draft_size(nodes, levels, bucket.passages), levels=levels)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
