"""`start=box`: a run begins with the weights of the packaged model, with its anchors or without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perank.app.assembly import Assembly
from perank.errors import BadInput
from perank.saving import hub
from perank.train import train
from support import toy

pytestmark = toy.QUIET


@pytest.fixture(scope="module")
def packaged(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with anchors, whose LLM has learnt a little."""
    output = tmp_path_factory.mktemp("packaged")
    train(toy.composed(world, output, "rank", "anchors=plus", "anchors.llm=6", "data.rows=8", "evaluate=false"))
    return output / "model"


@pytest.fixture(autouse=True)
def in_the_package(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "BOX", packaged)


def started(world: Path, output: Path, *more: str) -> Assembly:
    return Assembly(toy.composed(world, output, "rank", "start=box", *more))


def test_it_holds_every_weight_of_the_packaged_model(world: Path, packaged: Path, tmp_path: Path) -> None:
    model = started(world, tmp_path, "anchors=plus").model
    saved = hub.from_pretrained(packaged, merge=False, dtype="float32").model
    own = model.state_dict()
    for name, value in saved.state_dict().items():
        assert torch.equal(own[name], value), name
    assert saved.anchors is not None
    assert model.anchors.current.llm == saved.anchors.current.llm != 0


def test_without_anchors_the_llms_scores_keep_their_weight(
    world: Path, packaged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, saved = started(world, tmp_path).model, hub.from_pretrained(packaged).model
    assert model.anchors is None
    assert saved.anchors is not None
    assert model.score_scale == saved.score_scale * saved.anchors.weights["llm"]
    assert "the anchors of `start` are left out" in caplog.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("backbone.num_layers=1", "num_layers: None, .* the backbone has num_layers: 1"),
        ("backbone.lora.alpha=8", "'alpha': 4, .*'alpha': 8"),
        ("backbone.lora=null", "the backbone has num_layers: None, lora: None"),
    ],
)
def test_another_backbone_is_refused_with_what_to_set(world: Path, tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        started(world, tmp_path, more).model  # noqa: B018
    assert "backbone.num_layers" in refused.value.remedy


def test_adapters_may_be_trained_on_with_another_dropout(world: Path, tmp_path: Path) -> None:
    assert started(world, tmp_path, "backbone.lora.dropout=0.5").model is not None
