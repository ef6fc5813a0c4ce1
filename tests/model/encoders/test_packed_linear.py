"""Packed linear layers against torch's own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from perank.model.encoders.packed_linear import PackedLinear, pack_linears


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 40), nn.GELU(), nn.Linear(40, 6, bias=False)).to(dtype).requires_grad_(False)


@pytest.mark.parametrize("shape", [(12,), (1, 12), (3, 5, 12), (2, 0, 12), (400, 12)])
def test_packing_keeps_the_products(shape: tuple[int, ...]) -> None:
    plain, packed = mlp(), pack_linears(mlp())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(packed(x), plain(x), atol=1e-6, rtol=0)


def test_packing_keeps_the_products_of_strided_inputs() -> None:
    plain, packed = mlp(), pack_linears(mlp())
    x = torch.randn(7, 24, generator=torch.Generator().manual_seed(1))[:, ::2]
    assert torch.allclose(packed(x), plain(x), atol=1e-6, rtol=0)


def test_packing_keeps_the_state_dict() -> None:
    plain, packed = mlp().state_dict(), pack_linears(mlp()).state_dict()
    assert list(packed) == list(plain)
    assert all(torch.equal(packed[key], plain[key]) for key in plain)


def test_a_packed_model_can_be_packed_again_copied_and_pickled() -> None:
    packed = pack_linears(pack_linears(mlp()))
    x = torch.ones(12)
    assert torch.equal(copy.deepcopy(packed)(x), packed(x))
    assert torch.equal(pickle.loads(pickle.dumps(packed))(x), packed(x))


def test_few_rows_go_the_plain_way() -> None:
    plain, packed = mlp(), pack_linears(mlp())
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(packed(x), plain(x))


def test_a_packed_model_can_be_converted() -> None:
    plain, packed = mlp(torch.float64), pack_linears(mlp()).double()
    x = torch.randn(9, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(packed(x), plain(x), atol=1e-6, rtol=0)


def test_other_types_stay_as_they_are() -> None:
    model = pack_linears(mlp(torch.float64))
    assert not any(isinstance(layer, PackedLinear) for layer in model.modules())


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_nothing_is_packed_where_onednn_is_off() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        model = pack_linears(mlp())
    assert not any(isinstance(layer, PackedLinear) for layer in model.modules())
