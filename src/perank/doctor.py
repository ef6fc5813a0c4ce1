"""Estimate whether a training run fits on its GPUs, and how long it takes, without loading or training anything.

Examples:
    python -m perank.doctor +experiment=rank
    python -m perank.doctor +experiment=align scale=paper trainer=gpu
    python -m perank.doctor +experiment=rank scale=paper trainer=deepspeed_zero2 gpu=h100_80gb
    python -m perank.doctor +experiment=rank scale=paper trainer=gpu backbone=mistral_lora gpu=rtx4090_24gb
    python -m perank.doctor +experiment=rank scale=paper trainer=gpu backbone=mistral_lora data.batch_size=1

Takes what perank.train takes, and `gpu`. Prints parameters by part, the memory a GPU needs and the sums behind it,
tokens, FLOPs, steps and hours; exit code 2 means that the run won't fit. Hours rest on an assumed utilisation, and
activations on what transformers' layers keep: an estimate, not a measurement.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from perank.app.assembly import Assembly
from perank.app.jobs import run
from perank.app.settings import as_dict, check_keys, check_type, import_target
from perank.errors import BadInput, exits_cleanly
from perank.files import write_json
from perank.model.llm import LLMSettings
from perank.model.prompts import PromptBuilder
from perank.planning.composition import (
    Parallelism,
    ParameterGroup,
    StepShape,
    frozen_group,
    parallelism_of,
    parameter_groups,
)
from perank.planning.compute import work
from perank.planning.gpu_memory import GIB, MemoryItem, memory
from perank.planning.report import Gpu, RunPlan, plan_tables
from perank.planning.sequence_lengths import StandInTokenizer, align_length, rank_lengths
from perank.planning.shapes import encoder_on_meta, llm_on_meta, model_on_meta

log = logging.getLogger(__name__)


def doctor(config: DictConfig) -> RunPlan:
    """The plan of a training run. Raises `BadInput` for a config that can't be planned, not for one that won't fit."""
    for key in ("query_tokens", "passage_tokens"):
        check_type(config[key], int, key)
    check_keys([config.stage.name], ("align", "rank"), "stage")
    for key in ("batch_size", "epochs"):
        if not isinstance(config.data[key], int) or config.data[key] < 1:
            raise BadInput(f"{key} is {config.data[key]!r}", remedy="use 1 or more", id=f"data.{key}")
    assembly = Assembly(config)
    llm, encoder = llm_on_meta(assembly.llm), encoder_on_meta(assembly.encoder)
    model = model_on_meta(llm, encoder.config.hidden_size)
    made: dict[str, Any] = {"model": model, "optimizer": assembly.make("optimizer")}
    if config.stage.name == "rank":
        made["loss"] = assembly.make("loss")
    import_target(config.stage._target_, "stage")(**made)  # freezes what its stage doesn't train
    setup = parallelism_of(as_dict(config.trainer), dtype=str(llm.dtype).removeprefix("torch."))
    counted = parameter_groups(model, quantised=assembly.llm.quantise)
    shape = _shape(assembly, llm, _prompts(assembly))
    rows, epochs = config.data.rows, config.data.epochs
    return RunPlan(
        parts=[*counted, frozen_group("encoder (not on the GPUs)", encoder)],
        setup=setup,
        shape=shape,
        memory=memory(counted, shape, setup),
        work=work(counted, shape, setup, rows=rows, epochs=epochs),
        gpu=Gpu(**as_dict(config.gpu)),
    )


def _prompts(assembly: Assembly) -> PromptBuilder:
    try:
        tokenizer = assembly.llm.tokenizer()
    except BadInput:
        log.warning("the tokenizer of %s can't be reached: tokens are estimated", assembly.llm.name)
        tokenizer = StandInTokenizer()
    return PromptBuilder(tokenizer, **assembly.settings("prompt", PromptBuilder, "tokenizer"))


def _shape(assembly: Assembly, llm: Any, prompts: PromptBuilder) -> StepShape:
    config, sizes, settings = assembly.config, llm.config, assembly.llm
    if config.stage.name == "align":
        lengths = [align_length(prompts, text_tokens=config.data.text_tokens, passage_tokens=config.passage_tokens)]
    else:
        lengths = rank_lengths(
            prompts,
            candidates=config.data.candidates,
            steps=config.data.steps,
            texts=assembly.make("loss").needs_content,
            query_tokens=config.query_tokens,
            passage_tokens=config.passage_tokens,
        )
    head_width = getattr(sizes, "head_dim", None) or sizes.hidden_size // sizes.num_attention_heads
    return StepShape(
        layers=sizes.num_hidden_layers,
        width=sizes.hidden_size,
        inner=sizes.intermediate_size,
        heads=sizes.num_attention_heads,
        queries=sizes.num_attention_heads * head_width,
        keys_values=2 * sizes.num_key_value_heads * head_width,
        rows=config.data.batch_size,
        lengths=lengths,
        checkpointing=settings.gradient_checkpointing,
        adapted=_adapted(llm, settings),
        logits=sizes.vocab_size if config.stage.name == "align" else 0,
    )


def _adapted(llm: Any, settings: LLMSettings) -> list[int]:
    """The input widths of a layer's adapted matrices."""
    if settings.lora is None:
        return []
    first = llm.get_decoder().layers[0]
    named = {name: module for name, module in first.named_modules() if hasattr(module, "lora_A")}
    return [module.in_features for module in named.values()]


@exits_cleanly
def main() -> None:
    """The command line: prints the plan, writes doctor.json, and refuses what won't fit."""
    run("doctor", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    plan = doctor(config)
    console = Console()
    for table in plan_tables(plan):
        console.print(table)
    write_json(Path(config.paths.output) / "doctor.json", asdict(plan))
    if plan.needed > plan.gpu.memory_gib * GIB:
        problem = f"needs {plan.needed / GIB:.1f} GiB of the {plan.gpu.memory_gib} of one {plan.gpu.name}"
        raise BadInput(problem, remedy=_remedy(plan.setup, plan.shape, plan.memory, plan.parts), id="doctor")


def _remedy(setup: Parallelism, shape: StepShape, items: list[MemoryItem], assembly: list[ParameterGroup]) -> str:
    """What would save most."""
    largest = max((item for item in items if item.counts), key=lambda item: item.bytes).name
    if largest == "activations" and not shape.checkpointing:
        return "backbone.gradient_checkpointing=true, or lower data.batch_size and raise accumulate_grad_batches"
    if largest == "activations" and shape.rows > 1:
        return "lower data.batch_size and raise trainer.accumulate_grad_batches"
    if setup.shares == 1 and setup.gpus > 1 and any(part.trained for part in assembly if part.name == "layers"):
        return "trainer=fsdp or trainer=deepspeed_zero2 shares the optimizer's states, backbone=mistral_lora has few"
    return "train adapters (backbone=mistral_lora), hold the LLM in 4 bits (backbone=mistral_qlora), or use more GPUs"


if __name__ == "__main__":
    main()
