"""Where a model's start is computed: a quantised LLM is on a GPU, of its own process, before anything else is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from perank.errors import BadInput
from perank.model.llm import LLMSettings
from perank.model.projector_init import ProjectorSettings, Sample, _calibrate, first_hidden, started_model
from support import tiny

TEXTS = [passage.contents for passage in tiny.PASSAGES] * 4
SAMPLE = Sample(TEXTS, tiny.unit_vectors(20, 8), ["which otter"], tiny.unit_vectors(1, 8))


@pytest.mark.parametrize("step", ["h_1", "scale"])
def test_prompts_and_vectors_of_the_sample_go_to_the_device_of_the_llm(step: str) -> None:
    """The meta device stands for a GPU: it computes nothing, so the step itself ends with an error there."""
    model, seen = tiny.tiny_model(dtype=torch.float32).to("meta"), []
    for module in (model.projector, model.llm.get_input_embeddings()):
        module.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].device.type))
    with suppress(NotImplementedError, RuntimeError):
        if step == "h_1":
            first_hidden(model, tiny.tiny_prompts(), SAMPLE.queries, SAMPLE.vectors_XE[None])
        else:
            _calibrate(model, tiny.tiny_prompts(), SAMPLE, 1.0)
    assert seen == ["meta", "meta"]


@pytest.mark.parametrize("init", ["tokens", "isometry"])
def test_the_scale_is_that_of_projected_vectors_beside_token_embeddings(init: str) -> None:
    llm = tiny.tiny_llm().float()
    settings = ProjectorSettings(init=init, path=None, score_deviation=None, scale=5.0)
    model = started_model(llm, tiny.tiny_prompts(), settings, width=8, sample=lambda: SAMPLE)
    projected_XD = model.project(SAMPLE.vectors_XE)
    expected = 5.0 * llm.get_input_embeddings().weight.square().mean().sqrt()
    torch.testing.assert_close(projected_XD.square().mean().sqrt(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("scale", [0.0, float("inf")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(BadInput, match=r"projector\.scale"):
        ProjectorSettings(init="tokens", path=None, score_deviation=None, scale=scale)


def test_every_process_loads_a_quantised_llm_onto_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LoadedError(Exception):
        pass

    def loaded(path: Any, **options: Any) -> None:
        raise LoadedError(options.get("device_map"))

    tiny.tiny_llm().save_pretrained(tmp_path)
    monkeypatch.setattr("perank.model.llm._four_bits", lambda dtype: None)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", loaded)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(Exception, match=r"\{'': 2\}"):
        LLMSettings(name=str(tmp_path), quantise=True).load()
