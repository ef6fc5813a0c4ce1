"""The projector: the authors' architecture, its files, and a start that keeps passages apart."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perank.errors import BadInput
from perank.files import read_json
from perank.model.projector import Projector
from perank.model.projector_io import read_authors_projector, write_authors_projector


def cosines(vectors_XD: Tensor) -> Tensor:
    """Cosines between different rows."""
    unit = torch.nn.functional.normalize(vectors_XD, dim=-1)
    return (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]


def unit_vectors(number: int = 200, width: int = 16, mean: float = 1.0) -> Tensor:
    """Unit vectors around a large common mean, like an encoder's."""
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(number, width) + mean, dim=-1)


def test_it_is_two_linear_layers_around_a_gelu() -> None:
    torch.manual_seed(0)
    projector, vectors = Projector(4, 6), torch.randn(3, 4)
    first = vectors @ projector[0].weight.T + projector[0].bias
    erf = first * 0.5 * (1 + torch.erf(first / 2**0.5))
    assert torch.allclose(projector(vectors), erf @ projector[2].weight.T + projector[2].bias, atol=1e-6)
    assert list(projector.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("width", [8, 16, 40])
def test_a_fitted_start_has_the_scale_asked_for_and_keeps_passages_apart(width: int) -> None:
    vectors, projector = unit_vectors(), Projector(16, width)
    projector.fit_(vectors, scale=0.3)
    with torch.no_grad():
        projected = projector(vectors)
    assert float(projected.square().mean().sqrt()) == pytest.approx(0.3, rel=0.01)
    assert float(cosines(vectors).mean()) > 0.4
    assert abs(float(cosines(projected).mean())) < 0.1


def test_a_fitted_start_is_nearly_an_isometry_of_the_standardised_vectors() -> None:
    vectors, projector = unit_vectors(), Projector(16, 40)
    projector.fit_(vectors)
    with torch.no_grad():
        found = torch.pdist(projector(vectors))
    ratio = found / torch.pdist(vectors)
    assert float(ratio.std() / ratio.mean()) < 0.05


def test_a_start_fitted_to_targets_predicts_a_linear_map_of_the_vectors() -> None:
    vectors, projector = unit_vectors(400), Projector(16, 24)
    targets = vectors @ torch.randn(16, 24)
    projector.fit_(vectors[:300], targets[:300])
    with torch.no_grad():
        found = projector(vectors[300:])
    assert float(torch.nn.functional.cosine_similarity(found, targets[300:] - targets[:300].mean(0)).min()) > 0.95


def test_the_authors_file_holds_the_checkpoints_tensors(shared: Path) -> None:
    path = shared / "fixtures" / "pe_rank" / "stage1_out" / "projector.bin"
    config = read_json(path.with_name("config.json"))
    projector = read_authors_projector(path, width_in=config["embedding_size"], width_out=config["hidden_size"])
    expected = torch.load(path, weights_only=True)
    for key, value in projector.state_dict().items():
        assert torch.equal(value, expected[f"model.projector.{key}"])


def test_a_written_file_has_the_authors_keys_and_reads_back_exactly(tmp_path: Path) -> None:
    projector, path = Projector(3, 5), tmp_path / "projector.bin"
    write_authors_projector(path, projector)
    keys = list(torch.load(path, weights_only=True))
    assert keys == [f"model.projector.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")]
    back = read_authors_projector(path)
    assert all(torch.equal(back.state_dict()[key], value) for key, value in projector.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "projector.", "base_model.model.model.projector."])
def test_only_the_text_behind_projector_counts_in_a_key(tmp_path: Path, prefix: str) -> None:
    projector, path = Projector(3, 5), tmp_path / "projector.bin"
    torch.save({prefix + key: value for key, value in projector.state_dict().items()}, path)
    assert torch.equal(read_authors_projector(path)[2].bias, projector[2].bias)


def spoiled(change: Callable[[dict[str, Any]], Any]) -> Any:
    state = {f"model.projector.{key}": value for key, value in Projector(3, 5).state_dict().items()}
    return change(state) or state


KEY = "model.projector.2.bias"
SPOILED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (lambda s: s.pop(KEY) is None, r"missing: \['2.bias'\]"),
    "unknown": (lambda s: s.update({"model.projector.4.bias": torch.zeros(5)}), r"unknown: \['4.bias'\]"),
    "no tensor": (lambda s: s.update({KEY: 3}), "not a plain floating point"),
    "integers": (lambda s: s.update({KEY: torch.zeros(5, dtype=torch.long)}), "not a plain floating point"),
    "sparse": (lambda s: s.update({KEY: torch.zeros(5).to_sparse()}), "not a plain floating point"),
    "misshapen": (lambda s: s.update({KEY: torch.zeros(4)}), r"shape \[4\], expected \[5\]"),
    "not finite": (lambda s: s[KEY].fill_(float("nan")) is None, "aren't finite"),
    "flat": (lambda s: s.update({"model.projector.0.weight": torch.zeros(5)}), "expected two widths"),
    "twice": (lambda s: s.update({"projector.2.bias": torch.zeros(5)}), "same name"),
    "no names": (lambda s: [torch.zeros(5)], "tensors by name"),
    "odd names": (lambda s: {1: torch.zeros(5)}, "tensors by name"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_file_is_refused_with_its_path_and_what_is_wrong(tmp_path: Path, kind: str) -> None:
    change, problem = SPOILED[kind]
    torch.save(spoiled(change), tmp_path / "projector.bin")
    with pytest.raises(BadInput, match=problem) as caught:
        read_authors_projector(tmp_path / "projector.bin")
    assert caught.value.path == tmp_path / "projector.bin"


@pytest.mark.parametrize(
    ("asked", "problem"), [({"width_in": 4}, "width in is 3"), ({"width_out": 9}, "width out is 5")]
)
def test_another_width_is_refused(tmp_path: Path, asked: dict[str, int], problem: str) -> None:
    write_authors_projector(tmp_path / "projector.bin", Projector(3, 5))
    with pytest.raises(BadInput, match=problem):
        read_authors_projector(tmp_path / "projector.bin", **asked)


class Malice:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("1 / 0",)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"model.projector.0.weight": Malice()}))
    torch.save({"model.projector.0.weight": Malice()}, tmp_path / "zipped.bin")
    for name in ("plain.bin", "zipped.bin", "missing.bin", "."):
        with pytest.raises(BadInput):
            read_authors_projector(tmp_path / name)


@pytest.fixture(scope="module")
def good() -> bytes:
    buffer = io.BytesIO()
    torch.save({f"model.projector.{key}": value for key, value in Projector(3, 5).state_dict().items()}, buffer)
    return buffer.getvalue()


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_broken_bytes_are_refused_or_give_finite_tensors_of_the_right_shape(
    good: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    broken = bytearray(good)
    for place in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=6)):
        broken[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "broken.bin"
    path.write_bytes(bytes(broken)[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else broken)
    try:
        projector = read_authors_projector(path)
    except BadInput as error:
        assert error.path == path
    else:
        assert all(value.isfinite().all() for value in projector.state_dict().values())
