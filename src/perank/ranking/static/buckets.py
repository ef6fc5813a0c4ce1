"""Choose buffer shapes for windows: few on a GPU, where each is captured, exact ones on a CPU, where padding costs."""

from __future__ import annotations

from dataclasses import replace

import torch

from perank.ranking.static.drafts import draft_size
from perank.ranking.static.state import Bucket

ROWS = 32  # maximum windows per set of buffers
_CPU_NODES, _CPU_TOGETHER = 12, 64  # as in speculative.py: tokens that are nearly free, per row and in total
_GPU_NODES, _GPU_TOGETHER = 64, 256  # beyond 256 tokens a forward of 7B parameters is compute-bound
_LEVELS = 32  # deeper drafts are rarely accepted, and every level costs a dozen small operations


def bucket_for(
    device: torch.device, rows: int, prompt: int, passages: int, steps: int, *, query: bool, nodes: int | None = None
) -> Bucket:
    """The bucket for `rows` windows of at most `passages` passages and `steps` decided ranks.

    `nodes`: draft tokens per row; None: as many as are nearly free compared to reading the weights.
    """
    if device.type != "cpu":
        prompt, passages, steps = _up(prompt, 32), _up(passages, 20), _up(steps, 5)
    return smaller(Bucket(rows, prompt, passages, 1, steps - 1, 1, query), rows, device, nodes)


def smaller(bucket: Bucket, rows: int, device: torch.device, nodes: int | None = None) -> Bucket:
    """The bucket for `rows` of that bucket's windows: fewer rows have larger drafts."""
    most, together = (_CPU_NODES, _CPU_TOGETHER) if device.type == "cpu" else (_GPU_NODES, _GPU_TOGETHER)
    rows = rows if device.type == "cpu" else 1 << (rows - 1).bit_length()
    nodes = nodes or max(1, min(most, together // rows))
    levels = max(1, min(nodes, bucket.deepest, _LEVELS))
    return replace(bucket, rows=rows, nodes=draft_size(nodes, levels, bucket.passages), levels=levels)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
