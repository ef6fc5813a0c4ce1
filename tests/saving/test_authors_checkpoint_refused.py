"""The authors' checkpoint layout, spoiled: refused by name, whatever was done to it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.saving.authors_checkpoint import read_authors_checkpoint
from support.spoiled import SPOILED_CONFIGS, SPOILED_TENSORS
from support.tiny_families import save_bert, scores


@pytest.mark.parametrize("kind", SPOILED_TENSORS)
def test_spoiled_tensors_are_refused_by_name(copied: Path, encoder: Encoder, kind: str) -> None:
    change, problem = SPOILED_TENSORS[kind]
    tensors = load_file(copied / "model.safetensors")
    change(tensors)
    save_file(tensors, copied / "model.safetensors")
    with pytest.raises(BadInput, match=problem) as caught:
        read_authors_checkpoint(copied, encoder=encoder)
    assert str(caught.value.path).startswith(str(copied))


@pytest.mark.parametrize("kind", SPOILED_CONFIGS)
def test_spoiled_configs_are_refused(copied: Path, encoder: Encoder, kind: str) -> None:
    change, problem = SPOILED_CONFIGS[kind]
    config = json.loads((copied / "config.json").read_text()) | change
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=problem):
        read_authors_checkpoint(copied, encoder=encoder)


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_an_encoder_with_another_pooling_is_refused(good: Path, bert: Path, pooling: str) -> None:
    with pytest.raises(BadInput, match=f"its pooling is {pooling}"):
        read_authors_checkpoint(good, encoder=Encoder(str(bert), pooling=pooling, max_length=64))


def test_another_encoder_is_refused_by_its_weights_or_width(good: Path, tmp_path: Path) -> None:
    for name, options, problem in (
        ("other", {"seed": 1}, "weights differ"),
        ("wide", {"width": 32}, "its vectors have 32 entries"),
    ):
        folder = save_bert(tmp_path / name, **options)
        with pytest.raises(BadInput, match=problem):
            read_authors_checkpoint(good, encoder=Encoder(str(folder), max_length=64))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_empty_or_torn_file_is_refused(good: Path, encoder: Encoder, tmp_path: Path, name: str) -> None:
    whole = (good / name).read_bytes()
    for number, content in enumerate((None, b"", whole[: len(whole) // 2], b"\x80" * 9)):
        folder = Path(shutil.copytree(good, tmp_path / str(number)))
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(BadInput):
            read_authors_checkpoint(folder, encoder=encoder)


def test_a_tokenizer_without_chat_template_or_with_more_tokens_than_rows_is_refused(
    copied: Path, encoder: Encoder
) -> None:
    from transformers import AutoTokenizer, MistralConfig

    tokenizer = AutoTokenizer.from_pretrained(copied, config=MistralConfig())
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(BadInput, match=r"has \d+ tokens, the model"):
        read_authors_checkpoint(copied, encoder=encoder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_the_config_is_refused_or_harmless(
    good: Path, encoder: Encoder, tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / "fuzzed"
    if not folder.exists():
        shutil.copytree(good, folder)
    config = json.loads((good / "config.json").read_text())
    for name in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=2)):
        config[name] = data.draw(VALUES, label=name)
    (folder / "config.json").write_text(json.dumps(config))
    vectors = torch.zeros(2, 16)
    try:
        found = read_authors_checkpoint(folder, encoder=encoder)
        scores(found.model, found.prompts, vectors)
    except BadInput as error:
        assert re.search(r"config|safetensors|fuzzed", str(error)) or error.id


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_broken_bytes_in_the_weights_are_refused_or_give_finite_scores(
    good: Path, encoder: Encoder, tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / "fuzzed"
    if not folder.exists():
        shutil.copytree(good, folder)
    broken = bytearray((good / "model.safetensors").read_bytes())
    header = 8 + int.from_bytes(broken[:8], "little")
    reach = data.draw(st.sampled_from([8, header, len(broken)]))
    for place in data.draw(st.lists(st.integers(0, reach - 1), min_size=1, max_size=4)):
        broken[place] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(broken)
    try:
        found = read_authors_checkpoint(folder, encoder=encoder)
    except BadInput as error:
        assert str(folder) in str(error)
    else:
        assert all(value.isfinite().all() for value in found.model.state_dict().values())


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": 1}}', "{"])
def test_a_broken_index_is_refused(copied: Path, encoder: Encoder, index: str) -> None:
    (copied / "model.safetensors.index.json").write_text(index)
    with pytest.raises(BadInput):
        read_authors_checkpoint(copied, encoder=encoder)
