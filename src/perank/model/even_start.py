"""Begin an LLM's last layer as an even average of the tokens before it, so that the last token has read them all.

A language model's last position predicts the next token; a reader's has to collect the whole text. With queries and
rotary positions out of the way (q = 0) attention is an even average; v takes the directions of its inputs that predict
the target best (ridge regression, then the largest singular directions), o writes them to a fixed orthonormal basis.
From there training is short: without it, thousands of rows go into finding the average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.projector import ridge

_GAIN = 6.0  # the new directions beside the residual stream, whose entries are about 1


@torch.no_grad()
def even_start(llm: Any, run: Callable[[], Tensor], targets_QT: Tensor) -> float:
    """Rewrite the last layer of a Llama-like LLM in place; return the share of the targets' variance it explains.

    `run()` runs the LLM over the Q texts, batch by batch in order, and returns the mask of their tokens [Q, L], left to
    right. Raises `BadInput` for an LLM whose layers have no q, k, v and o projections.
    """
    layer = llm.get_decoder().layers[-1]
    attention = getattr(layer, "self_attn", None)
    if attention is None or not all(hasattr(attention, f"{name}_proj") for name in "qkvo"):
        problem = f"the layers of {type(llm).__name__} have no q, k, v, o projections"
        raise BadInput(problem, remedy="choose a Llama-like backbone for the reading stage", id="backbone")
    means_QD = _mean_inputs(attention, run)
    centred_QD = means_QD - means_QD.mean(0)
    targets_QT = targets_QT.double() - targets_QT.double().mean(0)
    map_DT = ridge(centred_QD, targets_QT, strength=1e-2)
    fitted_QT = centred_QD @ map_DT
    _, singular_S, right_ST = torch.linalg.svd(fitted_QT, full_matrices=False)
    width = attention.v_proj.out_features
    directions_DW = map_DT @ right_ST[:width].T
    scale_W = (centred_QD @ directions_DW).std(0).clamp(min=1e-6)
    strength_W = (singular_S[:width] / singular_S[0]).sqrt()
    attention.q_proj.weight.zero_()
    attention.v_proj.weight[: directions_DW.shape[1]].copy_((directions_DW / scale_W * strength_W).T)
    _write_out(attention)
    return float(fitted_QT.square().sum() / targets_QT.square().sum())


def _mean_inputs(attention: Any, run: Callable[[], Tensor]) -> Tensor:
    """The mean of the attention's inputs over each text's tokens, [Q, D] in fp64."""
    inputs: list[Tensor] = []

    def keep(module: Any, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        inputs.append((given[0] if given else named["hidden_states"]).double())

    hook = attention.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        mask_QL = run()
    finally:
        hook.remove()
    means, start = [], 0
    for hidden_BLD in inputs:
        mask_BL1 = mask_QL[start : start + len(hidden_BLD), : hidden_BLD.shape[1], None].double()
        means.append((hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1))
        start += len(hidden_BLD)
    return torch.cat(means)


def _write_out(attention: Any) -> None:
    """Let o map value head v to its own block of an orthonormal basis, shared by the query heads that use it."""
    size, width = attention.head_dim, attention.v_proj.out_features
    hidden = attention.o_proj.out_features
    noise = torch.randn(hidden, hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis_DW = torch.linalg.qr(noise).Q[:, :width].to(attention.o_proj.weight)
    heads, values = attention.o_proj.in_features // size, width // size
    shared = heads // values
    for head in range(heads):
        block = basis_DW[:, head // shared * size : (head // shared + 1) * size]
        attention.o_proj.weight[:, head * size : (head + 1) * size].copy_(_GAIN / shared * block)
