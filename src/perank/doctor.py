"""Estimate whether a training run fits on its GPUs, and how long it takes, without loading or training anything.

Examples:
    python -m perank.doctor +experiment=rank
    python -m perank.doctor +experiment=align scale=paper trainer=gpu
    python -m perank.doctor +experiment=rank scale=paper trainer=deepspeed_zero2 gpu=h100_80gb
    python -m perank.doctor +experiment=rank scale=paper trainer=gpu backbone=mistral_lora gpu=rtx4090_24gb
    python -m perank.doctor +experiment=rank scale=paper trainer=gpu backbone=mistral_lora data.batch_size=1

Accepts the settings of perank.train, and `gpu`. Prints parameters by part, the memory needed per GPU and its terms,
tokens, FLOPs, steps and hours; exit code 2 means that the run won't fit. These are estimates: hours assume a
utilisation, and activation memory is derived from what transformers' layers store.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig

from perank.app.assembly import Assembly
from perank.app.jobs import run
from perank.app.settings import as_dict, check_arguments, check_keys, check_type
from perank.errors import check_least, exits_cleanly
from perank.files import write_json
from perank.planning.plan import Gpu, Rows, RunPlan, plan_of
from perank.planning.report import plan_tables
from perank.planning.sequence_lengths import align_length, rank_lengths, tokenizer_of
from perank.planning.shapes import encoder_on_meta, llm_on_meta, model_on_meta


def doctor(config: DictConfig) -> RunPlan:
    """Plan a training run. Raises `BadInput` for a config that can't be planned, but not for one that won't fit."""
    check_keys([config.stage.name], ("align", "rank"), "stage")
    aligning = config.stage.name == "align"
    for key in ("batch_size", "epochs", "rows", *(("text_tokens",) if aligning else ("candidates", "steps"))):
        optional = key in ("rows", "steps", "text_tokens")
        check_type(config.data[key], int | None if optional else int, f"data.{key}")
        check_least("data", 1, **{key: config.data[key]})
    assembly = Assembly(config)
    encoder = encoder_on_meta(assembly.encoder)
    assembly.model = model_on_meta(llm_on_meta(assembly.llm), encoder.config.hidden_size)
    assert assembly.stage  # creating the stage freezes the parts that it doesn't train
    data = config.data
    lengths, longest = _lengths(assembly)
    rows = Rows(data.batch_size, lengths, data.rows, data.epochs, vocabulary=aligning, longest=longest)
    gpu = as_dict(config.gpus[config.gpu])
    check_arguments(Gpu, gpu, f"gpus.{config.gpu}")
    return plan_of(assembly.model, encoder, assembly.llm, rows, as_dict(config.trainer), Gpu(**gpu))


def _lengths(assembly: Assembly) -> tuple[list[int], list[int]]:
    """Return the lengths in tokens of the sequences of a typical row, and of the longest one possible."""
    config, data = assembly.config, assembly.config.data
    prompts = assembly.make("prompt")(tokenizer_of(assembly.llm))
    if config.stage.name == "align":
        tokens = [config.passage_tokens, data.text_tokens]
        typical, longest = ([align_length(prompts, text_tokens=data.text_tokens, passage_tokens=n)] for n in tokens)
        return typical, longest
    shortened = prompts.max_length // data.candidates + 1  # texts of so many tokens fill the prompt
    tokens = [config.passage_tokens, shortened if prompts.text_tokens is None else prompts.text_tokens]
    typical, longest = (
        rank_lengths(
            prompts,
            candidates=data.candidates,
            steps=data.steps,
            texts=assembly.make("loss").needs_content,
            query_tokens=config.query_tokens,
            passage_tokens=n,
        )
        for n in tokens
    )
    return typical, [max(pair) for pair in zip(typical, longest, strict=True)]


@exits_cleanly
def main() -> None:
    """Print the plan and write doctor.json; exit with code 2 if the run won't fit."""
    run("doctor", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    plan, console = doctor(config), Console()
    for table in plan_tables(plan):
        console.print(table)
    write_json(Path(config.paths.output) / "doctor.json", asdict(plan))
    plan.check_fit()


if __name__ == "__main__":
    main()
