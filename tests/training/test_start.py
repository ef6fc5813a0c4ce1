"""`start` begins with another run's weights, and with nothing else of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

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


def test_a_projector_file_replaces_the_one_of_the_run_that_is_started_from(
    world: Path, whole: Path, tmp_path: Path
) -> None:
    own = load_file(whole / "projector.safetensors")
    other = {name: value + 1 for name, value in own.items()}
    save_file(other, tmp_path / "other.safetensors")
    settings = [f"start={whole}", f"projector.path={tmp_path}/other.safetensors"]
    started = Assembly(toy.composed(world, tmp_path / "run", "rank", *settings)).model
    assert all(torch.equal(started.projector.state_dict()[name], value) for name, value in other.items())
    left = trained_state(Assembly(toy.composed(world, tmp_path / "run", "rank", settings[0])).model)
    kept = {name: value for name, value in trained_state(started).items() if not name.startswith("projector.")}
    assert kept
    assert all(torch.equal(left[name], value) for name, value in kept.items())


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
