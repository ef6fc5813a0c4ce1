"""Estimate whether a training run fits into GPU memory and how long it takes.

Hours depend on an assumed utilisation, and activations on what transformers' layers keep: estimates, not measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perank.errors import BadInput
from perank.model import LLMSettings
from perank.planning.composition import (
    LAYERS,
    Parallelism,
    ParameterGroup,
    StepShape,
    frozen_group,
    parallelism_of,
    parameter_groups,
)
from perank.planning.compute import Work, work
from perank.planning.gpu_memory import GIB, MemoryItem, memory, needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """`memory_gib` available to torch, peak dense `bf16_tflops`, and the `utilisation` of it assumed for training."""

    name: str
    memory_gib: float
    bf16_tflops: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Rows:
    """`batch` rows per GPU and micro-batch, whose sequences have these `lengths`; `total` rows (None: unknown).

    `longest` are the lengths of the longest row's sequences, which memory has to hold; compute goes by typical ones.
    `vocabulary` is whether every token is scored against the whole vocabulary.
    """

    batch: int
    lengths: Sequence[int]
    total: int | None
    epochs: int
    vocabulary: bool
    longest: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The parts of a run, and its memory and work."""

    parts: list[ParameterGroup]
    setup: Parallelism
    shape: StepShape
    memory: list[MemoryItem]
    work: Work
    gpu: Gpu

    @property
    def needed(self) -> float:
        """Bytes per GPU."""
        return needed(self.memory)

    @property
    def fits(self) -> bool:
        """Whether one GPU has enough memory."""
        return self.needed <= self.gpu.memory_gib * GIB

    def check_fit(self) -> None:
        """Raise `BadInput` with the most effective remedy unless the run fits."""
        if not self.fits:
            problem = f"needs {self.needed / GIB:.1f} GiB per GPU, one {self.gpu.name} has {self.gpu.memory_gib} GiB"
            raise BadInput(problem, remedy=self._remedy(), id="doctor")

    def _remedy(self) -> str:
        largest = max((item for item in self.memory if item.counts), key=lambda item: item.bytes).name
        if largest == "activations" and not self.shape.checkpointing:
            return "backbone.gradient_checkpointing=true, or lower data.batch_size and raise accumulate_grad_batches"
        if largest == "activations" and self.shape.rows > 1:
            return "lower data.batch_size and raise trainer.accumulate_grad_batches"
        if self.setup.shares == 1 < self.setup.gpus and any(p.trained for p in self.parts if p.name == LAYERS):
            sharded = "trainer=fsdp or trainer=deepspeed_zero2"
            return f"{sharded} shards the optimizer's states, backbone=mistral_lora has few"
        adapters = "train adapters (backbone=mistral_lora)"
        return f"{adapters}, load the LLM in 4 bits (backbone=mistral_lora backbone.quantise=true), or use more GPUs"


def plan_of(model: Any, encoder: Any, llm: LLMSettings, rows: Rows, trainer: Mapping[str, Any], gpu: Gpu) -> RunPlan:
    """Plan a run of a `PERank` that its stage has frozen; `llm` holds the settings of its LLM."""
    setup = parallelism_of(trainer, dtype=str(model.llm.dtype).removeprefix("torch."))
    parts = parameter_groups(model, quantised=llm.quantise)
    shape = _shape(model.llm, llm.gradient_checkpointing, rows)
    return RunPlan(
        parts=[*parts, frozen_group("encoder (not on the GPUs)", encoder)],
        setup=setup,
        shape=shape,
        memory=memory(parts, shape, setup),
        work=work(parts, shape, setup, rows=rows.total, epochs=rows.epochs),
        gpu=gpu,
    )


def _shape(llm: Any, checkpointing: bool, rows: Rows) -> StepShape:
    sizes, layer = llm.config, llm.get_decoder().layers[0]
    head_width = getattr(sizes, "head_dim", None) or sizes.hidden_size // sizes.num_attention_heads
    return StepShape(
        layers=sizes.num_hidden_layers,
        width=sizes.hidden_size,
        inner=sizes.intermediate_size,
        heads=sizes.num_attention_heads,
        queries=sizes.num_attention_heads * head_width,
        keys_values=2 * sizes.num_key_value_heads * head_width,
        rows=rows.batch,
        lengths=rows.lengths,
        checkpointing=checkpointing,
        adapted=[module.in_features for module in layer.modules() if hasattr(module, "lora_A")],
        logits=sizes.vocab_size if rows.vocabulary else 0,
        longest=rows.longest,
        frozen=not any(parameter.requires_grad for parameter in llm.get_decoder().layers.parameters()),
    )
