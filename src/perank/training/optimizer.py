"""AdamW with linear warm-up and cosine decay over the parameters that require gradients (section 4.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from perank.errors import BadInput, check_least


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """`lr` is for the LLM or its adapters, `projector_lr` for the projector (None: the same).

    `anchors_lr` is for the weights of anchored scores, which have no weight decay.

    The rate rises linearly from 0 over `warmup_ratio` of all steps, then decays along a cosine to `final_ratio` of its
    peak. Raises `BadInput` for rates and ratios out of range.
    """

    lr: float
    projector_lr: float | None = None
    anchors_lr: float = 1e-2
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_ratio: float = 0.03
    final_ratio: float = 0.0

    def __post_init__(self) -> None:
        rates = {
            "lr": self.lr,
            "anchors_lr": self.anchors_lr,
            "projector_lr": self.lr if self.projector_lr is None else self.projector_lr,
        }
        for name, value in rates.items():
            if not 0 < value < math.inf:
                raise BadInput(f"the learning rate is {value}", remedy="use a number above 0", id=f"optimizer.{name}")
        check_least("optimizer", 0, weight_decay=self.weight_decay)
        if not all(0 <= beta < 1 for beta in self.betas):
            remedy = "use numbers from 0 to below 1"
            raise BadInput(f"the betas are {list(self.betas)}", remedy=remedy, id="optimizer.betas")
        shares = {"warmup_ratio": self.warmup_ratio, "final_ratio": self.final_ratio}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise BadInput(f"the value is {value}", remedy="use a number from 0 to 1", id=f"optimizer.{name}")

    def build(self, module: nn.Module, total_steps: int) -> dict[str, Any]:
        """Create the optimizer and schedule as Lightning's `configure_optimizers` returns them."""
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        groups: dict[str, dict[str, Any]] = {
            "llm": {"lr": self.lr},
            "projector": {"lr": self.lr if self.projector_lr is None else self.projector_lr},
            "anchors": {"lr": self.anchors_lr, "weight_decay": 0.0},
        }
        for name, group in groups.items():
            group |= {"name": name, "params": [p for full, p in trained if _group_of(full) == name]}
        optimizer = torch.optim.AdamW(
            [group for group in groups.values() if group["params"]],
            betas=(self.betas[0], self.betas[1]),
            weight_decay=self.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def factor(self, step: int, total: int) -> float:
        """Return the factor on the learning rate at step `step` (from 0) of `total`.

        transformers' cosine schedules differ: they start at 0, or are one step ahead after the warm-up.
        """
        warmup = max(1, math.ceil(self.warmup_ratio * total))
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return self.final_ratio + (1 - self.final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def _group_of(parameter: str) -> str:
    return next((name for name in ("projector", "anchors") if f".{name}." in f".{parameter}"), "llm")
