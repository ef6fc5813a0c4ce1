"""Begin an LLM's last layer as an even average of the tokens before it, so that the last token has read them all.

A language model's last position predicts the next token; a reader's has to collect the whole text and to say a target
vector t, so that h . E_M(e) estimates t . e. With queries and rotary positions out of the way (q = 0) attention is an
even average; v takes the directions of its inputs that predict the target best (ridge regression, then the largest
singular directions of the scores that it gives passages), o writes what they say of t as the projector would.
From there training is short: without it, thousands of rows go into finding the average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.projector import ridge

_FLOOR = 1e-3  # of the passages' largest variance: directions below it don't tell passages apart


@torch.no_grad()
def even_start(
    llm: Any, run: Callable[[], Tensor], targets_QE: Tensor, passages_XE: Tensor, projected_XD: Tensor
) -> float:
    """Rewrite the last layer of a Llama-like LLM in place; return the share of the scores' variance it explains.

    `run()` runs the LLM over the Q texts, batch by batch in order, and returns the mask of their tokens [Q, L], left to
    right. Scores are those of targets t and passages' vectors e; `projected_XD` are the same passages' E_M(e). Raises
    `BadInput` for an LLM whose layers have no q, k, v and o projections.
    """
    layer = llm.get_decoder().layers[-1]
    attention = getattr(layer, "self_attn", None)
    if attention is None or not all(hasattr(attention, f"{name}_proj") for name in "qkvo"):
        problem = f"the layers of {type(llm).__name__} have no q, k, v, o projections"
        raise BadInput(problem, remedy="choose a Llama-like backbone for the reading stage", id="backbone")
    root_EE, inverse_EE = _roots(_centred(passages_XE))
    means_QD = _mean_inputs(attention, run)
    mean_D, wanted_QE = means_QD.mean(0), _centred(targets_QE) @ root_EE
    map_DE = ridge(means_QD - mean_D, wanted_QE, strength=1e-2)
    fitted_QE = (means_QD - mean_D) @ map_DE
    map_DE -= torch.outer(mean_D, mean_D @ map_DE) / mean_D.square().sum()  # nothing that all texts share
    width = attention.v_proj.out_features
    right_EW = torch.linalg.svd(fitted_QE, full_matrices=False).Vh[:width].T
    values_DW = map_DE @ right_EW
    scale = ((means_QD - mean_D) @ values_DW).std(0).max().clamp(min=1e-6)
    attention.q_proj.weight.zero_()
    attention.v_proj.weight.zero_()
    attention.v_proj.weight[: values_DW.shape[1]].copy_((values_DW / scale).T)
    map_ED = ridge(_centred(passages_XE), _centred(projected_XD), strength=1e-3)
    _write_out(attention, scale * right_EW.T @ inverse_EE @ map_ED)
    share = 1 - (fitted_QE - wanted_QE).square().sum() / wanted_QE.square().sum()
    return float(share)


def _centred(values_XE: Tensor) -> Tensor:
    return values_XE.double() - values_XE.double().mean(0)


def _roots(centred_XE: Tensor) -> tuple[Tensor, Tensor]:
    """S^(1/2) and S^(-1/2) [E, E] of the passages' covariance S: |t S^(1/2)|^2 is the variance of t's scores."""
    values_E, basis_EE = torch.linalg.eigh(centred_XE.T @ centred_XE / len(centred_XE))
    root_E = values_E.clamp(min=_FLOOR * float(values_E.max())).sqrt()
    return (basis_EE * root_E) @ basis_EE.T, (basis_EE / root_E) @ basis_EE.T


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


def _write_out(attention: Any, written_WD: Tensor) -> None:
    """Let o write row w for value w; query heads that use the same values share the work."""
    size, width = attention.head_dim, attention.v_proj.out_features
    heads, values = attention.o_proj.in_features // size, width // size
    shared = heads // values
    rows_WD = torch.zeros(width, written_WD.shape[1], dtype=written_WD.dtype, device=written_WD.device)
    rows_WD[: len(written_WD)] = written_WD / shared
    for head in range(heads):
        block_WD = rows_WD[head // shared * size : (head // shared + 1) * size]
        attention.o_proj.weight[:, head * size : (head + 1) * size].copy_(block_WD.T)
