"""`trainer=deepspeed_zero2`: how batches and gradients go through DeepSpeed's engine under Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.plugins.precision import DeepSpeedPrecision


class WholeBatchPrecision(DeepSpeedPrecision):
    """DeepSpeed's precision with batches as they are, and a loss that is divided once under accumulation.

    Lightning's own casts every tensor of a batch to bf16. It refuses frozen dataclasses, which batches are, and would
    round the encoder's fp32 vectors. It also lets DeepSpeed divide the loss by the number of accumulated micro-batches
    after Lightning has done so.
    """

    def convert_input(self, data: Any) -> Any:
        return data

    def backward(self, tensor: Any, model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        super().backward(tensor, model, optimizer, *args, scale_wrt_gas=False, **kwargs)
