"""Linear layers of a frozen model whose weights are packed for the CPU once instead of at every product.

The two oneDNN operators are those that torch.compile's frozen graphs call; they have no public name. If they are
missing or disabled (`torch.backends.mkldnn.enabled = False`), or the CPU is not x86, layers stay unchanged.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

from perank.model.precision import multiplies_bf16

_FEW_ROWS = 4  # below this, plain products are faster: they are bound by reading the weights


class PackedLinear(nn.Linear):
    """A Linear with equal products up to rounding; `weight` and the state dict stay, so memory holds a second copy.

    Few rows, and layers moved or converted after packing, use the plain product.
    """

    packed: Tensor

    def pack(self) -> None:
        """Pack the current weights."""
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())

    def forward(self, input: Tensor) -> Tensor:
        rows = input.numel() // max(1, self.in_features)
        if rows < _FEW_ROWS or input.device.type != "cpu" or input.dtype != self.packed.dtype:
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")

    def __getstate__(self) -> dict[str, Any]:  # oneDNN's layout can be neither copied nor pickled
        return {key: value for key, value in self.__dict__.items() if key != "packed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.pack()


def pack_linears(model: Any) -> Any:
    """Turn every nn.Linear on the CPU into a `PackedLinear`, in place: fp32, and bf16 if the CPU supports it.

    The weights must not change or move afterwards: products would keep using the old ones.
    """
    types = _packable_types()
    for layer in model.modules():
        if _is_plain_linear(layer) and layer.weight.dtype in types and layer.weight.device.type == "cpu":
            layer.__class__ = PackedLinear
            layer.pack()
    return model


def _is_plain_linear(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear  # subclasses may do more than multiply


def _packable_types() -> set[torch.dtype]:
    operators = ("_linear_pointwise", "_reorder_linear_weight")
    if (
        platform.machine().lower() not in {"x86_64", "amd64"}
        or not torch.backends.mkldnn.is_available()
        or not torch.backends.mkldnn.enabled
        or not all(hasattr(torch.ops.mkldnn, name) for name in operators)
    ):
        return set()
    return {torch.float32, torch.bfloat16} if multiplies_bf16("cpu") else {torch.float32}
