"""Models on the meta device have the parameters they have elsewhere, and known shapes need no Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.model.lora import Lora
from perank.planning.composition import FOUR_BITS, frozen_group, parameter_groups, total
from perank.planning.shapes import encoder_on_meta, llm_on_meta, model_on_meta
from support import tiny


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", unreachable)


def test_mistral_has_the_published_number_of_parameters_without_the_hub() -> None:
    llm = llm_on_meta(LLMSettings(name="mistralai/Mistral-7B-Instruct-v0.2", dtype="bfloat16"))
    assert sum(p.numel() for p in llm.parameters()) == 7_241_732_096
    assert all(p.is_meta for p in llm.parameters())
    parts = parameter_groups(model_on_meta(llm, 768))
    assert total(parts, "parameters") == 7_241_732_096 + 768 * 4096 + 4096 + 4096**2 + 4096


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("jinaai/jina-embeddings-v2-base-en", 137_368_320 - 768 * 769), ("BAAI/bge-base-en-v1.5", 109_482_240)],
)
def test_encoders_have_the_published_numbers(name: str, parameters: int) -> None:
    """Jina's without the pooling layer that its checkpoint carries and no vector passes."""
    encoder = encoder_on_meta(Encoder(name))
    assert frozen_group("encoder", encoder).parameters == parameters
    assert encoder.config.hidden_size == 768


def test_another_model_that_cannot_be_reached_is_refused() -> None:
    with pytest.raises(BadInput, match="no connection"):
        llm_on_meta(LLMSettings(name="someone/else"))


def test_four_bits_count_for_the_layers_matrices_and_nothing_else() -> None:
    llm = llm_on_meta(LLMSettings(name="mistralai/Mistral-7B-Instruct-v0.2", dtype="bfloat16", lora=Lora(r=8)))
    parts = {part.name: part for part in parameter_groups(model_on_meta(llm, 768), quantised=True)}
    matrices = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert parts["layers"].bytes == matrices * FOUR_BITS + 2 * 32 * 2 * 4096
    assert parts["adapters"].parameters == 32 * 8 * (4096 + 4096 + 4096 + 1024)
    assert parts["adapters"].bytes == 4 * parts["adapters"].parameters
    assert parts["token embeddings"].bytes == 2 * 32000 * 4096


def test_parts_of_a_real_model_add_up(tmp_path: Path) -> None:
    model = tiny.tiny_model()
    parts = parameter_groups(model)
    assert total(parts, "parameters") == sum(p.numel() for p in model.parameters())
    assert total(parts, "bytes") == sum(p.nbytes for p in model.parameters())
    assert {part.name for part in parts} == {"token embeddings", "layers", "final norm", "vocabulary head", "projector"}
