"""DeepSpeed's side of a training step without DeepSpeed: the whole module in bf16, an engine that owns the backward."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn


class Engine(nn.Module):
    """What Lightning uses of `DeepSpeedEngine`, with the arithmetic of deepspeed 0.19 (`runtime/engine.py`)."""

    def __init__(self, module: Any, optimizer: Any, accumulate: int) -> None:
        super().__init__()
        self.module, self.optimizer, self.accumulate = module.bfloat16(), optimizer, accumulate
        self.micro_steps = 0

    def forward(self, *inputs: Any, **more: Any) -> Any:
        return self.module(*inputs, **more)

    def backward(self, loss: Tensor, retain_graph: bool = False, scale_wrt_gas: bool = True) -> None:
        (loss / self.accumulate if scale_wrt_gas else loss).backward(retain_graph=retain_graph)

    def step(self, **_: Any) -> None:
        self.micro_steps += 1
        if self.micro_steps % self.accumulate == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()


class SimulatedZero2(SingleDeviceStrategy):
    """One CPU in DeepSpeedStrategy's place."""

    def __init__(self) -> None:
        super().__init__(device=torch.device("cpu"))

    @property
    def handles_gradient_accumulation(self) -> bool:
        return True

    def setup(self, trainer: Any) -> None:
        super().setup(trainer)
        self.model: Any = Engine(self.lightning_module, self.optimizers[0], trainer.accumulate_grad_batches)
