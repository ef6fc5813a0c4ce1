"""The reader's first scores: the final norm evened out, `score_scale` by least squares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perank.model import PERank
from perank.training.read import even_scores, read_scores
from support import tiny


def error(hidden_QD: Tensor, targets_QE: Tensor, passages_XE: Tensor, model: PERank, scale: float) -> float:
    """The squared error of scores [Q, X] written out, each query's less its mean over the passages."""
    projected_XD = model.project(passages_XE)
    total = 0.0
    for h_D, t_E in zip(hidden_QD, targets_QE, strict=True):
        scores_X, wanted_X = scale * projected_XD @ h_D, passages_XE @ t_E
        total += float((scores_X - scores_X.mean() - wanted_X + wanted_X.mean()).square().sum())
    return total


@torch.no_grad()
def test_first_scores_are_even_over_dimensions_and_have_the_best_scale() -> None:
    torch.manual_seed(0)
    model = tiny.tiny_model(dtype=torch.float32)
    width, width_in = model.llm.config.hidden_size, model.projector.width_in
    passages_XE = torch.nn.functional.normalize(torch.randn(30, width_in), dim=1)
    targets_QE = torch.randn(50, width_in)
    hidden_QD = model.project(targets_QE) + 0.1 * torch.randn(50, width)
    hidden_QD[:, 3] = 40 + 9 * hidden_QD[:, 3]  # the one that is far from the others
    norm = model.decoder.norm.weight.clone()
    share = even_scores(model, hidden_QD, targets_QE, passages_XE)
    scaled_QD = hidden_QD * (model.decoder.norm.weight / norm)  # what the norm, linear in its weight, gives from now on
    assert scaled_QD.std(0).square().mean() == pytest.approx(1.0, rel=1e-3)
    assert scaled_QD.std(0)[3] < scaled_QD.std(0).median() < 3
    best = float(model.score_scale)
    errors = [error(scaled_QD, targets_QE, passages_XE, model, best * factor) for factor in (0.97, 1.0, 1.03)]
    assert errors[1] < min(errors[0], errors[2])
    nothing = error(scaled_QD, targets_QE, passages_XE, model, 0.0)
    assert share == pytest.approx(1 - errors[1] / nothing, abs=1e-4)
    scores_QX, wanted_QX = read_scores(model, scaled_QD, passages_XE, targets_QE)
    assert float((scores_QX - wanted_QX).square().sum()) == pytest.approx(errors[1], rel=1e-4)
