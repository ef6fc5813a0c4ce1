"""Seconds of a training step at Mistral-7B's size, its memory, and its share of the card's peak.

Stage 2 with texts (adapters, every weight, FSDP and ZeRO-2 on one card) and stage 1 with and without checkpointing.
A case has as many of the 32 layers as the doctor says fit; the peak it predicts stands next to the measured one.
Random weights; steps run through Lightning, as in `perank.train`.

    python benchmarks/gpu/train_step.py --into train_step.csv      # about 6 minutes on an H100
"""

from __future__ import annotations

import gc
import statistics
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from session import Session, parser
from torch.utils.data import DataLoader
from training_cases import Case, Sizes, cases, instantiated, trainer_settings

from perank.errors import exits_cleanly
from perank.planning.gpu_memory import GIB
from perank.planning.plan import Gpu, RunPlan
from perank.ranking.decoder import Clock


def main() -> None:
    """Measure and write the rows."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=8, help="timed steps per case, after two")
    options.add_argument("--layers", type=int, default=32, help="at most")
    chosen = options.parse_args()
    if chosen.smoke:
        chosen.steps, chosen.layers = 2, 1
    with TemporaryDirectory() as folder, Session(chosen, study="gpu_train_step") as session:
        sizes = Sizes.tiny(Path(folder)) if chosen.smoke else Sizes()
        for case in session.within(cases()):
            measure(session, case.with_batch(2) if chosen.smoke else case, sizes, chosen)
            gc.collect()
            torch.cuda.empty_cache()


def measure(session: Session, case: Case, sizes: Sizes, options: Any) -> None:
    """Plan a case, train it for a few steps and compare."""
    if case.trainer == "deepspeed_zero2" and find_spec("deepspeed") is None:
        return session.skip(case.name, "deepspeed isn't installed")
    plan = case.largest(sizes, card(session), options.layers)
    if plan is None:
        return session.skip(case.name, "by the doctor's arithmetic not even one layer fits")
    try:
        seconds, peak = train(session, case, sizes, plan.shape.layers, options.steps)
    except torch.cuda.OutOfMemoryError:
        session.add("PE-Rank", "gib_predicted", plan.needed / GIB, variant=f"{case.name}, out of memory")
        return None
    return record(session, case, plan, seconds, peak)


def record(session: Session, case: Case, plan: RunPlan, seconds: float, peak: float) -> None:
    """Write the rows of a case."""
    columns = {"variant": case.name, "backbone": f"random, Mistral's shape, {plan.shape.layers} layers"}
    for metric, value in {
        "seconds_per_step": seconds,
        "tokens_per_second": plan.shape.tokens / seconds,
        "flops_per_second": plan.work.flops / seconds,
        "share_of_peak": plan.work.flops / seconds / session.limits.peak,
        "gib_predicted": plan.needed / GIB,
        "gib_allocated": peak / GIB,
    }.items():
        session.add("PE-Rank", metric, value, **columns)


def card(session: Session) -> Gpu:
    """This card, for the doctor; a CPU has what the tiny sizes need."""
    on_gpu = session.device.type == "cuda"
    memory = torch.cuda.get_device_properties(session.device).total_memory if on_gpu else 64 * GIB
    peak = session.limits.peak / 1e12
    return Gpu(name=str(session.device), memory_gib=memory / GIB, bf16_tflops=peak, utilisation=1.0)


def train(session: Session, case: Case, sizes: Sizes, layers: int, steps: int) -> tuple[float, float]:
    """Median seconds of a step, and the peak of allocated bytes."""
    timer, module = StepTimer(session.device), case.module(case.model(sizes, layers, session.device))
    settings = trainer_settings(case.trainer)
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
    trainer = lightning.Trainer(
        accelerator="gpu" if session.device.type == "cuda" else "cpu",
        devices=1,
        precision=settings["precision"],
        strategy=instantiated(settings["strategy"]) or "auto",
        plugins=instantiated(settings["plugins"]),
        max_steps=steps + 2,
        callbacks=[timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader([case.batch(sizes)] * (steps + 2), batch_size=None))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    peak = torch.cuda.max_memory_allocated(session.device) if session.device.type == "cuda" else 0
    return statistics.median(timer.seconds[2:]), peak


class StepTimer(lightning.Callback):
    """Seconds between the ends of steps, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.clock, self.seconds = Clock(device), []

    def on_train_batch_end(self, *_: Any) -> None:
        """Take a lap."""
        self.seconds.append(self.clock.lap())


if __name__ == "__main__":
    exits_cleanly(main)()
