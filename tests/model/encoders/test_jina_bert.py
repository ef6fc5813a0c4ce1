"""JinaBERT against numbers from Jina's own code (`fixtures/jina_bert`), and against checkpoints that are not it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from perank.errors import BadInput
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.jina_bert import JinaBert, JinaBertConfig, alibi_bias, alibi_slopes
from perank.model.encoders.weights import load_encoder_weights

TOLERANCE = 2e-5  # of unit vectors; a tanh GELU alone is off by 1.4e-4
HIDDEN = 6e-5  # of states about 3 long: theirs are 2.1e-5 off fp64, and ours as much the other way on some CPUs


@pytest.fixture(params=["h4", "h6"])
def folder(request: pytest.FixtureRequest, shared: Path) -> Path:
    path = shared / "fixtures" / "jina_bert" / request.param
    if not path.is_dir():
        pytest.skip(f"no fixture under {path}")
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    for file in folder.glob("*"):
        shutil.copyfile(file, tmp_path / file.name)
    return tmp_path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A random JinaBERT of our own making, for what needs no fixture."""
    torch.manual_seed(0)
    config = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 3, "type_vocab_size": 2}
    model = JinaBert(JinaBertConfig(**config))
    save_file({key: value.clone() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    full = config | {"model_type": "bert", "position_embedding_type": "alibi", "feed_forward_type": "geglu"}
    (tmp_path / "config.json").write_text(json.dumps(full))
    return tmp_path


def expected(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "expected.safetensors")


def texts(folder: Path) -> list[str]:
    return json.loads((folder / "inputs.json").read_text())["texts"]


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def change_weights(folder: Path, change: Any) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


@torch.inference_mode()
def hidden_of(model: JinaBert, ids_BL: Tensor, mask_BL: Tensor | None = None) -> Tensor:
    return model(ids_BL, mask_BL).last_hidden_state


def test_hidden_states_of_all_texts_are_those_of_jinas_code(folder: Path) -> None:
    wanted = expected(folder)
    mask = wanted["attention_mask"]
    hidden = hidden_of(JinaBert.from_pretrained(str(folder)), wanted["input_ids"], mask)
    assert (hidden - wanted["last_hidden_state"])[mask == 1].abs().max() <= HIDDEN


def test_texts_through_the_encoder_give_the_vectors_of_jinas_code(folder: Path) -> None:
    encoder = Encoder(str(folder), pooling="mean", max_length=8192)
    difference = encoder.encode_passages(texts(folder)) - expected(folder)["mean_pooled_l2"]
    assert difference.abs().max() <= TOLERANCE


def test_the_encoders_token_ids_are_those_of_jinas_code(folder: Path) -> None:
    wanted, tokenizer = expected(folder), Encoder(str(folder), max_length=8192).tokenizer
    for text, ids, mask in zip(texts(folder), wanted["input_ids"], wanted["attention_mask"], strict=True):
        assert tokenizer(text)["input_ids"] == ids[mask == 1].tolist()


def test_slopes_are_those_of_jinas_code(folder: Path) -> None:
    slopes = expected(folder)["alibi_slopes"]
    assert torch.equal(alibi_slopes(len(slopes)).float(), slopes)


def test_twelve_heads_append_every_other_slope_of_sixteen_heads() -> None:
    exponents = [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]
    assert alibi_slopes(12).tolist() == pytest.approx([2**-x for x in exponents], rel=1e-15)


def test_the_bias_is_a_symmetric_distance_times_minus_the_slope() -> None:
    bias = alibi_bias(2, 5)
    for head, slope in enumerate([2**-4, 2**-8]):
        for i in range(5):
            assert bias[0, head, i].tolist() == [-slope * abs(i - j) for j in range(5)]


def test_padding_and_company_do_not_change_a_text(tiny: Path) -> None:
    model = JinaBert.from_pretrained(str(tiny))
    ids_BL = torch.randint(50, (5, 40), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([40, 1, 7, 39, 20])
    mask_BL = (torch.arange(40) < lengths[:, None]).long()
    together = hidden_of(model, ids_BL, mask_BL)
    for row, length in enumerate(lengths):
        alone = hidden_of(model, ids_BL[row : row + 1, :length])
        assert (together[row, :length] - alone[0]).abs().max() < 1e-6


def test_a_short_text_after_a_long_one_sees_the_same_distances(tiny: Path) -> None:
    fresh, used = JinaBert.from_pretrained(str(tiny)), JinaBert.from_pretrained(str(tiny))
    ids_BL = torch.arange(30)[None]
    hidden_of(used, ids_BL)
    assert (hidden_of(used, ids_BL[:, :9]) - hidden_of(fresh, ids_BL[:, :9])).abs().max() < 1e-6


def test_half_precision_checkpoints_are_computed_in_the_dtype_asked_for(tiny: Path) -> None:
    ids = torch.arange(12)[None]
    before = hidden_of(JinaBert.from_pretrained(str(tiny)), ids)
    change_weights(tiny, lambda state: {key: value.half() for key, value in state.items()})
    model = JinaBert.from_pretrained(str(tiny))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (hidden_of(model, ids) - before).abs().max() < 1e-2
    assert JinaBert.from_pretrained(str(tiny), dtype=torch.bfloat16)(ids)[0].dtype == torch.bfloat16


def test_a_bert_prefix_and_an_unused_pooler_are_tolerated(tiny: Path) -> None:
    ids = torch.arange(12)[None]
    before = hidden_of(JinaBert.from_pretrained(str(tiny)), ids)
    change_weights(tiny, lambda state: {f"bert.{key}": value for key, value in state.items()})
    change_weights(tiny, lambda state: state | {"bert.pooler.dense.weight": torch.zeros(24, 24)})
    assert torch.equal(hidden_of(JinaBert.from_pretrained(str(tiny)), ids), before)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: {k: v for k, v in s.items() if "layer.1.mlp.wo.bias" not in k}, "layer.1.mlp.wo.bias"),
        (lambda s: s | {"encoder.layer.0.intermediate.dense.weight": torch.zeros(4)}, "layer.0.intermediate.dense"),
        (lambda s: s | {"encoder.layer.0.mlp.wo.bias": torch.zeros(7)}, "layer.0.mlp.wo.bias"),
        (lambda s: s | {"encoder.layer.0.attention.self.layer_norm_q.weight": torch.zeros(24)}, "layer_norm_q"),
    ],
    ids=["missing", "unexpected", "misshapen", "the qk-post-norm variant"],
)
def test_weights_that_are_not_exactly_a_jinabert_are_refused_by_name(tiny: Path, change: Any, named: str) -> None:
    change_weights(tiny, change)
    with pytest.raises(BadInput, match=named):
        JinaBert.from_pretrained(str(tiny))


@pytest.mark.parametrize(
    "changes",
    [
        {"position_embedding_type": "absolute"},
        {"position_embedding_type": None},
        {"feed_forward_type": "original"},
        {"feed_forward_type": None},
        {"hidden_size": None},
        {"hidden_size": "24"},
        {"num_hidden_layers": 0},
        {"num_attention_heads": 5},
        {"layer_norm_eps": "tiny"},
        {"intermediate_size": 41},
    ],
    ids=str,
)
def test_configs_of_another_architecture_are_refused(tiny: Path, changes: dict[str, Any]) -> None:
    change_config(tiny, **changes)
    with pytest.raises(BadInput):
        JinaBert.from_pretrained(str(tiny))


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}junk"])
def test_a_torn_weights_file_is_refused(tiny: Path, content: bytes) -> None:
    (tiny / "model.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        JinaBert.from_pretrained(str(tiny))


@pytest.mark.parametrize("content", ["", "[]", "{", "3"])
def test_a_broken_config_is_refused(tiny: Path, content: str) -> None:
    (tiny / "config.json").write_text(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        JinaBert.from_pretrained(str(tiny))


def test_a_folder_without_safetensors_is_refused(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        JinaBert.from_pretrained(str(tiny))


@pytest.mark.parametrize("kind", ["absolute", None])
def test_jina_weights_that_call_themselves_plain_bert_are_refused(copy: Path, kind: str | None) -> None:
    """The trap: transformers loads them as BertModel with random MLPs and says so only in a warning."""
    change_config(copy, position_embedding_type=kind)
    with pytest.raises(BadInput, match="not a whole BertModel"):
        load_encoder_weights(str(copy), revision=None, dtype=torch.float32)


def test_plain_bert_weights_that_call_themselves_alibi_are_refused(copy: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    BertModel(config).save_pretrained(copy)
    change_config(copy, position_embedding_type="alibi", feed_forward_type="geglu")
    with pytest.raises(BadInput, match="not a whole JinaBERT"):
        load_encoder_weights(str(copy), revision=None, dtype=torch.float32)
