"""`start` begins with another run's weights, and with nothing else of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perank.app.assembly import Assembly
from perank.errors import BadInput
from perank.model.lora import trained_state
from perank.train import train
from perank.training.checkpoints import newest_checkpoint, read_checkpoint
from support import toy

pytestmark = toy.QUIET


def test_a_run_starts_from_the_newest_weights_of_another(world: Path, whole: Path, tmp_path: Path) -> None:
    started = trained_state(Assembly(toy.composed(world, tmp_path, "rank", f"start={whole}")).model)
    newest = newest_checkpoint(whole)
    assert newest is not None
    left = read_checkpoint(newest)["state_dict"]
    assert {f"model.{name}" for name in started} == left.keys()
    assert all(torch.equal(started[name.removeprefix("model.")], value) for name, value in left.items())


def test_a_checkpoint_file_starts_a_run_whose_steps_count_from_zero(world: Path, whole: Path, tmp_path: Path) -> None:
    first = whole / "checkpoints" / "step-000005.ckpt"
    train(toy.composed(world, tmp_path, "rank", f"start={first}", "data.rows=8", "evaluate=false"))
    assert toy.losses(tmp_path).keys() == {0, 1}
    assert toy.losses(tmp_path)[0] != toy.losses(whole)[0]


@pytest.mark.parametrize(
    ("start", "more", "said"),
    [
        ("{whole}", "backbone.lora.r=3", "in this model"),
        ("{whole}/nothing.ckpt", "seed=0", "the checkpoint is missing"),
        ("{world}", "seed=0", "the folder has no checkpoints"),
    ],
)
def test_weights_that_do_not_fit_or_are_not_there_are_refused(
    world: Path, whole: Path, tmp_path: Path, start: str, more: str, said: str
) -> None:
    start = start.format(whole=whole, world=world)
    with pytest.raises(BadInput, match=said):
        Assembly(toy.composed(world, tmp_path, "rank", f"start={start}", more)).model  # noqa: B018 - made when asked for
