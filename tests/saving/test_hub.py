"""One folder holds the whole model: what was saved ranks as before, and a folder that was touched is refused."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from perank import Reranker
from perank.errors import BadInput
from perank.model.anchors import AnchorSettings
from perank.model.llm import LLMSettings
from perank.model.lora import Lora
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.ranking.decoder import WindowBatch
from perank.records import Ranking
from perank.saving import hub
from perank.saving.hub import from_pretrained, save_pretrained
from support import tiny

LORA = Lora(r=2, alpha=6, dropout=0.0, targets=("q_proj", "down_proj"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny LLM in a folder of its own."""
    folder = tmp_path / "base"
    tiny.tiny_llm(3).save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def parts(base: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "prompts": tiny.tiny_prompts(max_length=300, text_tokens=9),
        "encoder": tiny.tiny_encoder(tmp_path / "encoder"),
        "llm": LLMSettings(name=str(base), lora=LORA),
    }


def trained(settings: LLMSettings, **options: Any) -> PERank:
    """A model whose projector and adapters differ from any start."""
    torch.manual_seed(0)
    model = PERank(settings.load(), Projector(8, 32), **options)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ("lora_" in name or "projector" in name):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def ranked(model: PERank, parts: dict[str, Any]) -> Ranking:
    return Reranker(model, parts["prompts"], parts["encoder"]).rank_batch([tiny.FIVE])[0]


def test_a_saved_model_ranks_as_before_with_its_adapters_merged(parts: dict[str, Any], tmp_path: Path) -> None:
    model = trained(parts["llm"], score_scale=0.7, anchors=AnchorSettings(cosine=0.25))
    save_pretrained(tmp_path / "saved", model, window=7, step=3, **parts)
    loaded = from_pretrained(tmp_path / "saved", dtype="float32")
    assert not any("lora_" in name for name, _ in loaded.model.named_parameters())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert (loaded.window, loaded.step) == (7, 3)
    assert (loaded.prompts.version, loaded.prompts.max_length, loaded.prompts.text_tokens) == ("compact", 300, 9)
    assert loaded.encoder.identity == parts["encoder"].identity
    assert (loaded.model.anchors.current.cosine, float(loaded.model.score_scale)) == (0.25, pytest.approx(0.7))
    assert ranked(loaded.model, parts).order == ranked(model, parts).order
    windows = tiny.windows([5], dtype=torch.float32)
    for one, other in zip(_hidden(loaded.model, windows), _hidden(model, windows), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def _hidden(model: PERank, windows: WindowBatch) -> torch.Tensor:
    with torch.no_grad():
        embedded_BLD = model.embed(windows.prompts, model.project(windows.vectors_BNE))
        return model.eval().decoder(inputs_embeds=embedded_BLD, use_cache=False).last_hidden_state


def test_a_saved_model_can_be_trained_further_with_its_adapters_apart(parts: dict[str, Any], tmp_path: Path) -> None:
    model = trained(parts["llm"])
    save_pretrained(tmp_path / "saved", model, **parts)
    again = from_pretrained(tmp_path / "saved", dtype="float32", merge=False)
    state = again.model.state_dict()
    assert [key for key in state if "lora_" in key]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_model_whose_whole_llm_was_trained_needs_no_other_folder(
    base: Path, parts: dict[str, Any], tmp_path: Path
) -> None:
    settings = LLMSettings(name=str(base), num_layers=1)
    model = trained(settings)
    with torch.no_grad():
        model.llm.get_decoder().layers[0].mlp.up_proj.weight.add_(0.1)
    expected = ranked(model, parts)
    save_pretrained(tmp_path / "saved", model, **{**parts, "llm": settings})
    base.rename(tmp_path / "gone")
    (tmp_path / "saved").rename(tmp_path / "moved")
    loaded = from_pretrained(tmp_path / "moved", dtype="float32")
    assert ranked(loaded.model, parts).order == expected.order
    assert loaded.model.decoder.config.num_hidden_layers == 1


def test_a_model_is_saved_and_loaded_without_a_word(
    base: Path, parts: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = LLMSettings(name=str(base))
    model = trained(settings)
    capfd.readouterr()
    save_pretrained(tmp_path / "saved", model, whole_llm=True, **{**parts, "llm": settings})
    Reranker.from_pretrained(tmp_path / "saved").rank_batch([tiny.FIVE])
    assert capfd.readouterr() == ("", "")


def test_garbage_is_collected_again_after_loading(base: Path, parts: dict[str, Any], tmp_path: Path) -> None:
    save_pretrained(tmp_path / "saved", trained(parts["llm"]), **parts)
    from_pretrained(tmp_path / "saved")
    assert gc.isenabled()
    with pytest.raises(BadInput):
        from_pretrained(tmp_path / "nothing")
    assert gc.isenabled()


def test_weights_can_be_saved_in_half_the_bytes(parts: dict[str, Any], tmp_path: Path) -> None:
    model = trained(parts["llm"])
    for name, dtype in (("whole", None), ("half", "bfloat16")):
        save_pretrained(tmp_path / name, model, dtype=dtype, **parts)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = from_pretrained(tmp_path / "half", dtype="float32")
    assert loaded.model.projector[0].weight.dtype == torch.float32
    torch.testing.assert_close(
        loaded.model.projector[0].weight, model.projector[0].weight.detach(), rtol=1e-2, atol=1e-2
    )


def test_a_reranker_made_from_a_folder_gives_the_ranking_of_its_parts(parts: dict[str, Any], tmp_path: Path) -> None:
    model = trained(parts["llm"])
    save_pretrained(tmp_path / "saved", model, window=4, step=2, **parts)
    reranker = Reranker.from_pretrained(tmp_path / "saved", dtype="float32")
    assert (reranker.windows.window, reranker.windows.step) == (4, 2)
    by_hand = Reranker(model, parts["prompts"], parts["encoder"], windows=reranker.windows)
    assert reranker.rank_batch([tiny.FIVE])[0].order == by_hand.rank_batch([tiny.FIVE])[0].order


def _edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def _twice(config: Path, key: str) -> None:
    config.write_text(config.read_text().replace(key, f"{key}: 7, {key}"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no such file"),
        (lambda folder: (folder / "model.safetensors").unlink(), "the file is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "SHA-256 differs"),
        (_edit(lambda config: config.update(format=2)), "format 1"),
        (_edit(lambda config: config.update(surprise=1)), "unknown keys: \\['surprise'\\]"),
        (_edit(lambda config: config["prompt"].pop("version")), "missing keys: \\['version'\\]"),
        (_edit(lambda config: config["llm"].update(num_layers="two")), "llm.num_layers"),
        (_edit(lambda config: config["projector"].update(width_in=9)), "width in is 8, expected 9"),
        (_edit(lambda config: config["llm"].update(lora=None)), "without lora settings"),
        (_edit(lambda config: config["llm"]["lora"].update(targets=["q_proj"])), "don't fit the LLM"),
        (_edit(lambda config: config["llm"]["lora"].update(r=3)), "rank 2"),
        (_edit(lambda config: config["llm"]["lora"].update(r=0)), "llm.lora.r"),
        (_edit(lambda config: config["projector"].update(width_out=10**12)), "width out is 32, expected 10+"),
        (_edit(lambda config: config["prompt"].update(max_length=0)), "prompt.max_length"),
        (_edit(lambda config: config.update(score_scale=float("inf"))), "score_scale"),
        (lambda folder: _twice(folder / "config.json", '"window"'), "'window' occurs twice"),
    ],
)
def test_a_folder_that_was_touched_is_refused(
    damage: Callable[[Path], None], message: str, parts: dict[str, Any], tmp_path: Path
) -> None:
    save_pretrained(tmp_path / "saved", trained(parts["llm"]), **parts)
    damage(tmp_path / "saved")
    with pytest.raises(BadInput, match=message):
        from_pretrained(tmp_path / "saved")


def test_settings_that_are_not_the_models_are_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    model = trained(parts["llm"])
    with pytest.raises(BadInput, match="settings say lora: None"):
        save_pretrained(tmp_path / "saved", model, **{**parts, "llm": replace(parts["llm"], lora=None)})


def test_the_layers_that_are_left_out_are_not_reported_and_missing_ones_are(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    assert LLMSettings(name=str(base), num_layers=1).load().config.num_hidden_layers == 1
    assert "UNEXPECTED" not in "".join(capfd.readouterr())
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lack model.layers.0.mlp.up_proj.weight"):
        LLMSettings(name=str(base), num_layers=1).load()


def test_an_unknown_name_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match="not/a model"):
        from_pretrained("not/a model")


def test_a_device_that_is_not_here_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown device 'abacus'"):
        from_pretrained(tmp_path, device="abacus")


def test_an_installation_without_a_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "BOX", tmp_path / "box")
    with pytest.raises(BadInput, match="includes no model"):
        from_pretrained()


def test_a_folder_is_checked_before_it_is_uploaded(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        hub.push_to_hub(tmp_path, "someone/model")


def test_importing_perank_is_light_and_using_it_needs_no_training_library() -> None:
    code = (
        "import sys, perank; assert 'torch' not in sys.modules; perank.Reranker;"
        "heavy = {'peft', 'lightning', 'ranx', 'bm25s', 'wandb', 'hydra', 'pandas', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
