"""Peak bytes per GPU during a step, one function per kind of memory.

P numbers, T of them trained, on w GPUs:

    weights      one, ddp: in their own types    fsdp: / w, plus gathered layers    zero2: 2 P
    gradients    one, ddp: of trained weights    fsdp: / w                          zero2: 2 T / w  (ddp: plus buckets)
    optimizer    one, ddp: Adam's two moments    fsdp: / w                          zero2: 12 T / w
    activations  what layers keep for the backward pass; with checkpointing, only their inputs
    stepping     AdamW's temporaries, after activations are freed: the larger of the two counts
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from perank.model import BLOCK
from perank.planning.composition import (
    EMBEDDINGS,
    HEAD,
    LAYERS,
    NORM,
    PROJECTOR,
    Parallelism,
    ParameterGroup,
    StepShape,
    total,
)

GIB = 2**30
RESERVED = 1.0 * GIB  # CUDA's own context and the libraries' workspaces
FRAGMENTATION = 0.05  # memory lost in the allocator, as a fraction of everything else
FROZEN = 0.72  # of a trained layer's activations, see SOURCES
LOGIT_BYTES = {2: 18, 4: 16}  # by the logits' own bytes: they, fp32, log-softmax, and the gradients of all three
SOURCES = {
    "activations per layer": "what transformers' Llama layer keeps, to the byte (tests/planning/test_gpu_memory.py)",
    "frozen layers": f"{FROZEN:.0%} of that, counted on a Mistral layer's proportions (the same file)",
    "bytes per logit": "18 in bf16: counted by hand; no run has measured them",
    "1 GiB and 5%": "assumed for CUDA and its allocator; no run has measured them",
}


@dataclass(frozen=True, slots=True)
class MemoryItem:
    """A line of the report: `sum` is the arithmetic as text; `counts` is whether it is part of the peak."""

    name: str
    bytes: float
    sum: str
    counts: bool = True


def memory(parts: Sequence[ParameterGroup], shape: StepShape, setup: Parallelism) -> list[MemoryItem]:
    """List the items of one GPU, including `RESERVED` and `FRAGMENTATION`; `needed` sums them."""
    fixed = [*weights(parts, shape, setup), *gradients(parts, shape, setup), *optimizer(parts, setup)]
    kept, stepped = activations(shape, setup), stepping(parts, setup)
    moments = [replace(item, counts=item is max(kept, stepped, key=lambda i: i.bytes)) for item in (kept, stepped)]
    lost = FRAGMENTATION * needed([*fixed, *moments])
    rest = MemoryItem("CUDA and fragmentation", RESERVED + lost, f"1 GiB + {FRAGMENTATION:.0%} of the above")
    return [*fixed, *moments, rest]


def needed(items: Sequence[MemoryItem]) -> float:
    """Peak bytes: the sum of the items that count."""
    return sum(item.bytes for item in items if item.counts)


def weights(parts: Sequence[ParameterGroup], shape: StepShape, setup: Parallelism) -> list[MemoryItem]:
    """Weights, including gathered and cast copies."""
    numbers, held = total(parts, "parameters"), total(parts, "bytes")
    if setup.kind == "zero2":
        return [MemoryItem("weights", 2 * numbers, f"{numbers:,.0f} x 2 bytes (bf16)")]
    if setup.kind == "fsdp":
        layer = _of(parts, LAYERS) / shape.layers
        root = sum(_of(parts, name) for name in (EMBEDDINGS, NORM, HEAD, PROJECTOR))
        text = f"{setup.element} bytes x (2 layers of {layer:,.0f} + {root:,.0f} outside layers)"
        return [
            MemoryItem("weights, shard", held / setup.gpus, f"{held:,.0f} bytes / {setup.gpus} GPUs"),
            MemoryItem("weights, gathered", setup.element * (2 * layer + root), text),
        ]
    items = [MemoryItem("weights", held, f"{numbers:,.0f} numbers, {held / numbers:.2f} bytes each")]
    if setup.wide:  # autocast keeps copies of trained weights until the forward pass ends
        trained = total(parts, "trained_matrices")
        items.append(MemoryItem("bf16 copies (autocast)", 2 * trained, f"{trained:,.0f} x 2 bytes"))
    return items


def gradients(parts: Sequence[ParameterGroup], shape: StepShape, setup: Parallelism) -> list[MemoryItem]:
    """Gradients, in the type of their weights."""
    numbers, own = total(parts, "trained"), total(parts, "trained_bytes")
    if setup.kind == "zero2":
        return [
            MemoryItem("gradients, shard", 2 * numbers / setup.gpus, f"{numbers:,.0f} x 2 bytes / {setup.gpus} GPUs"),
            MemoryItem(
                "buckets", 3 * 2 * setup.bucket, f"3 x {setup.bucket:,} x 2 bytes (two to reduce, one to gather)"
            ),
        ]
    if setup.kind == "fsdp":
        layer = total([part for part in parts if part.name == LAYERS], "trained") / shape.layers
        return [
            MemoryItem("gradients, shard", own / setup.gpus, f"{own:,.0f} bytes / {setup.gpus} GPUs"),
            MemoryItem(
                "gradients, one layer", (setup.element + 4) * layer, f"{layer:,.0f} x ({setup.element} + 4) bytes"
            ),
        ]
    items = [MemoryItem("gradients", own, f"{numbers:,.0f} numbers, {own / max(1, numbers):.0f} bytes each")]
    return items if setup.kind == "one" else [*items, MemoryItem("DDP's buckets", own, "a copy of the gradients")]


def optimizer(parts: Sequence[ParameterGroup], setup: Parallelism) -> list[MemoryItem]:
    """AdamW's two moments; under ZeRO also the fp32 master weights."""
    numbers, own = total(parts, "trained"), total(parts, "trained_bytes")
    if setup.kind == "zero2":
        text = f"{numbers:,.0f} x (4 fp32 weights + 8 moments) bytes / {setup.gpus} GPUs"
        return [MemoryItem("optimizer, shard", 12 * numbers / setup.gpus, text)]
    shared = "" if setup.shares == 1 else f" / {setup.shares} GPUs"
    return [MemoryItem("optimizer", 2 * own / setup.shares, f"2 moments x {own:,.0f} bytes{shared}")]


def stepping(parts: Sequence[ParameterGroup], setup: Parallelism) -> MemoryItem:
    """Temporaries of AdamW, which updates all tensors at once: one value per number, under ZeRO fp32 gradients too."""
    numbers = total(parts, "trained")
    each = 8 if setup.kind == "zero2" else 4
    text = f"{numbers:,.0f} x {each} bytes{'' if setup.shares == 1 else f' / {setup.shares} GPUs'}"
    return MemoryItem("AdamW's step", each * numbers / setup.shares, text)


def activations(shape: StepShape, setup: Parallelism) -> MemoryItem:
    """What forward passes keep for the backward pass; never attention's L x L scores (SDPA, flash)."""
    layer, tokens = layer_bytes(shape, setup), sum(shape.padded)
    scored = min(tokens, BLOCK) if shape.logits else 0  # positions whose logits exist at once
    logits = scored * shape.logits * LOGIT_BYTES[setup.element]
    if not shape.checkpointing:
        text = f"{tokens:,} tokens x {shape.layers} layers x {layer:,} bytes"
        found = tokens * shape.layers * layer
    else:
        inputs, longest = stream_bytes(setup) * shape.width, max(shape.padded)
        text = (
            f"{tokens:,} tokens x {shape.layers} layers' inputs of {inputs:,} bytes + {longest:,} tokens"
            f" x {layer:,} bytes of the recomputed layer"
        )
        found = tokens * shape.layers * inputs + longest * layer
    if logits:
        text += f" + {scored:,} x {shape.logits:,} logits x {LOGIT_BYTES[setup.element]} bytes"
    return MemoryItem("activations", found + logits, text)


def layer_bytes(shape: StepShape, setup: Parallelism) -> int:
    """Bytes that one layer keeps per token; in bf16: 16 D + 4 Q + 2 K + 8 I + 4 H + 8 (letters as in `StepShape`).

    Measured on transformers' Llama and Mistral layers with SDPA, which compute their norms in fp32. Adapters keep
    their input in fp32 and its dropout mask. An upper bound: frozen weights don't keep their inputs, and layers without
    any trained weight keep `FROZEN` of it.
    """
    per_width = {(2, False): 16, (2, True): 26, (4, False): 24}[setup.element, setup.wide]
    in_attention = setup.element * (2 * shape.queries + shape.keys_values)
    own = per_width * shape.width + in_attention + 4 * setup.element * shape.inner
    whole = own + 4 * shape.heads + 8 + sum(9 * width for width in shape.adapted)
    return math.ceil(FROZEN * whole) if shape.frozen else whole


def stream_bytes(setup: Parallelism) -> int:
    """Bytes per number in the residual stream."""
    return 4 if setup.wide or setup.element == 4 else 2


def _of(parts: Sequence[ParameterGroup], name: str) -> float:
    return total([part for part in parts if part.name == name], "parameters")
