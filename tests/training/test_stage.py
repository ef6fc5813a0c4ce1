"""What the devices of a run decide together."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from perank.errors import BadInput
from perank.training.align import AlignModule
from perank.training.optimizer import AdamW
from support import tiny
from support.forked import fork


def log_on(rank: int, loss: float, folder: Path) -> None:
    """Log a loss on one of two devices; write what that raises."""
    group = {"init_method": f"file://{folder}/group", "rank": rank, "world_size": 2, "timeout": timedelta(seconds=60)}
    dist.init_process_group("gloo", **group)  # type: ignore[arg-type]
    both = LightningEnvironment()
    both.set_world_size(2)
    devices = DDPStrategy(parallel_devices=[torch.device("cpu")] * 2, cluster_environment=both)
    batches = SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(ready=1)))
    stage: Any = AlignModule(tiny.tiny_model(dtype=torch.float32), AdamW(lr=1e-4))
    stage.log = lambda *_, **__: None
    stage._trainer = SimpleNamespace(
        strategy=devices, world_size=2, global_step=7, fit_loop=SimpleNamespace(epoch_loop=batches)
    )
    try:
        stage.log_terms({"loss": torch.tensor(loss)}, 4)
    except BadInput as error:
        (folder / f"said-{rank}").write_text(str(error))


def said(folder: Path, losses: tuple[float, float]) -> list[str | None]:
    children = [fork(lambda rank=rank: log_on(rank, losses[rank], folder)) for rank in (0, 1)]  # type: ignore[misc]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    files = [folder / f"said-{rank}" for rank in (0, 1)]
    return [file.read_text() if file.is_file() else None for file in files]


def test_a_loss_that_is_not_finite_on_one_device_ends_the_run_on_all(tmp_path: Path) -> None:
    first, second = said(tmp_path, (1.0, math.nan))
    assert first is not None and "another device's loss isn't finite after 7 steps" in first
    assert second is not None and "the loss is nan after 7 steps" in second


def test_finite_losses_end_nothing(tmp_path: Path) -> None:
    assert said(tmp_path, (1.0, 2.0)) == [None, None]
