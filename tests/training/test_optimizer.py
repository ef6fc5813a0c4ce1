"""The learning rate over a run, and which parameters get which."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from perank.errors import BadInput
from perank.training.optimizer import AdamW


class Resumable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.llm, self.projector, self.frozen = nn.Linear(2, 2), nn.Linear(2, 3), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Resumable()


def rates(steps: int, **options: float) -> list[float]:
    """The rate of every step of a run of `steps`, as torch's scheduler hands it out."""
    built = AdamW(lr=1.0, **options).build(Module(), steps)
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_linearly_then_falls_along_a_cosine_to_zero() -> None:
    found = rates(100, warmup_ratio=0.1)
    assert found[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    for step in range(10, 100):
        assert found[step] == pytest.approx((1 + math.cos(math.pi * (step - 10) / 90)) / 2)
    assert found[99] < 1e-3


def test_the_rate_may_end_above_zero_and_a_run_may_be_a_single_step() -> None:
    assert rates(200, warmup_ratio=0.0, final_ratio=0.25)[-1] == pytest.approx(0.25, abs=1e-3)
    assert rates(1) == [1.0]


def test_the_projector_may_have_a_rate_of_its_own_and_frozen_weights_have_none() -> None:
    optimizer = AdamW(lr=1e-3, projector_lr=1e-2, weight_decay=0.5, betas=(0.8, 0.9)).build(Module(), 10)["optimizer"]
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert {name: group["initial_lr"] for name, group in groups.items()} == {"llm": 1e-3, "projector": 1e-2}
    assert {name: sum(p.numel() for p in group["params"]) for name, group in groups.items()} == {
        "llm": 6, "projector": 9
    }  # fmt: skip
    assert all(group["weight_decay"] == 0.5 and group["betas"] == (0.8, 0.9) for group in groups.values())


def test_a_run_that_trains_the_projector_alone_has_one_group() -> None:
    module = Module()
    module.model.llm.requires_grad_(False)
    optimizer = AdamW(lr=1e-3).build(module, 10)["optimizer"]
    assert [group["name"] for group in optimizer.param_groups] == ["projector"]
    assert optimizer.param_groups[0]["initial_lr"] == 1e-3


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0.0}, {"lr": -1.0}, {"lr": math.nan}, {"lr": math.inf}, {"projector_lr": 0.0}, {"warmup_ratio": 1.5},
     {"final_ratio": -0.1}, {"betas": (0.9, 1.1)}],
    ids=str,
)  # fmt: skip
def test_rates_and_shares_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput) as caught:
        AdamW(**{"lr": 1e-3, **wrong})  # type: ignore[arg-type]
    assert caught.value.id is not None
    assert caught.value.id.removeprefix("optimizer.").removesuffix("s") in next(iter(wrong))


def test_steps_are_torchs_own() -> None:
    module = Module()
    optimizer = AdamW(lr=1e-3).build(module, 10)["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)


@pytest.mark.parametrize(
    "wrong", [{"weight_decay": -1.0}, {"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}, {"betas": (2.0, 3.0)}], ids=str
)
def test_what_torch_would_refuse_later_is_refused_by_its_setting(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"optimizer.{next(iter(wrong))}"):
        AdamW(lr=1e-3, **wrong)
