"""Tables of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perank.planning import compute, gpu_memory
from perank.planning.gpu_memory import GIB
from perank.planning.plan import RunPlan

if TYPE_CHECKING:
    from rich.table import Table


def plan_tables(plan: RunPlan) -> Iterator[Table]:
    """Yield tables of the parameters, the memory per GPU and the work."""
    from rich.table import Table

    parts = Table("part", title="parameters")
    for name in ("parameters", "trained", "GiB held"):
        parts.add_column(name, justify="right")
    for part in plan.parts:
        parts.add_row(part.name, f"{part.parameters:,}", f"{part.trained:,}", f"{part.bytes / GIB:.2f}")
    numbers = [sum(getattr(part, name) for part in plan.parts) for name in ("parameters", "trained")]
    parts.add_row("all", *(f"{number:,}" for number in numbers), f"{sum(p.bytes for p in plan.parts) / GIB:.2f}")
    yield parts
    used = Table("item", title=f"memory per GPU, {plan.setup.gpus} x {plan.gpu.name}, {plan.setup.kind}")
    used.caption = "in brackets: not part of the peak"
    used.add_column("GiB", justify="right")
    used.add_column("=")
    for item in plan.memory:
        size = f"{item.bytes / GIB:.2f}"
        used.add_row(item.name, size if item.counts else f"({size})", item.sum, style=None if item.counts else "dim")
    fits = "fits" if plan.fits else "does NOT fit"
    used.add_row("needed", f"{plan.needed / GIB:.2f}", f"of {plan.gpu.memory_gib}: {fits}", style="bold")
    yield used
    yield _work(plan)
    sources = Table("factor", title="where the factors come from")
    sources.add_column("source")
    for factor, source in {**gpu_memory.SOURCES, **compute.SOURCES}.items():
        sources.add_row(factor, source)
    yield sources


def _work(plan: RunPlan) -> Table:
    from rich.table import Table

    done, shape, gpu = plan.work, plan.shape, plan.gpu
    table = Table("work", title="work per optimizer step and in total")
    table.add_column("", justify="right")
    table.add_column("=")
    sequences = " + ".join(f"{length:,}" for length in shape.lengths)
    times = f"{shape.rows} rows x {plan.setup.gpus} GPUs x {plan.setup.accumulate} micro-batches"
    table.add_row("rows per step", f"{done.rows:,}", times)
    table.add_row("tokens per step", f"{done.tokens:,}", f"x ({sequences}) tokens per row")
    table.add_row("FLOPs per step", f"{done.flops:.3g}", "see perank/planning/compute.py")
    hours = done.hours(plan.setup, gpu.bf16_tflops, gpu.utilisation)
    table.add_row("steps", "?" if done.steps is None else f"{done.steps:,}", "from data.rows" if done.steps else "")
    seconds = done.seconds(plan.setup, gpu.bf16_tflops, gpu.utilisation)
    share = done.flops / (seconds * plan.setup.gpus * gpu.bf16_tflops * 1e12)
    peak = f"{plan.setup.gpus} x {gpu.bf16_tflops:g} TFLOP/s"
    assumed = f"at {share:.1%} of {peak}: {gpu.utilisation:.0%} (assumed) while computing, and waiting"
    table.add_row("hours", "?" if hours is None else f"{hours:.1f}", assumed)
    return table
