"""E_M: the two-layer MLP that maps an encoder's vector [.., E] to the LLM's embedding space [.., D] (section 3.1).

The same projected vector is the prompt's token, the fed-back token and the output row, so its geometry determines how
well the model distinguishes passages. With torch's default initialisation all passages map to nearly the same vector,
because encoder outputs share a large mean. `fit_` initialises it from data instead; the architecture stays the authors'
(`mlp2x_gelu`: keys 0.weight, 0.bias, 2.weight, 2.bias), because standardisation folds into the first layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Projector(nn.Sequential):
    """Linear(E -> D), GELU, Linear(D -> D), with biases."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, width_out), nn.GELU(), nn.Linear(width_out, width_out))
        self.width_in, self.width_out = width_in, width_out

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return next(self.parameters()).dtype

    @torch.no_grad()
    def fit_(
        self, vectors_XE: Tensor, targets_XD: Tensor | None = None, *, scale: float = 1.0, strength: float = 1e-3
    ) -> None:
        """Initialise close to a linear map with outputs at token-embedding scale `scale` (RMS per entry).

        Standardised vectors pass through the GELU's nearly linear part (a bias of 3, inputs within about 1). Without
        `targets_XD` the map is an isometry. With one target per vector, for example the mean token embedding of the
        same text, it is their ridge regression: the alignment stage's objective in closed form.
        """
        weight_DE, bias_D = _standardise(vectors_XE.double(), self.width_out)
        shift = 3.0
        standard_XD = vectors_XE.double() @ weight_DE.T + bias_D
        hidden_XD = nn.functional.gelu(standard_XD * 0.5 + shift)
        mean_D = hidden_XD.mean(0)
        centred_XD = hidden_XD - mean_D
        if targets_XD is None:
            map_DD = 2.0 * torch.eye(self.width_out, dtype=torch.float64)
        else:
            map_DD = ridge(centred_XD, targets_XD.double() - targets_XD.double().mean(0), strength=strength).T
        rms = (centred_XD @ map_DD.T).square().mean().sqrt()
        map_DD *= scale / rms
        self.load_state_dict(
            {
                "0.weight": 0.5 * weight_DE,
                "0.bias": 0.5 * bias_D + shift,
                "2.weight": map_DD,
                "2.bias": -map_DD @ mean_D,
            }
        )


def ridge(inputs_XA: Tensor, outputs_XB: Tensor, *, strength: float) -> Tensor:
    """[A, B]: the ridge regression with penalty `strength` times the inputs' mean variance."""
    gram_AA = inputs_XA.T @ inputs_XA
    gram_AA += strength * gram_AA.diagonal().mean() * torch.eye(len(gram_AA), dtype=gram_AA.dtype)
    return torch.linalg.solve(gram_AA, inputs_XA.T @ outputs_XB)


def _standardise(vectors_XE: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """weight [D, E], bias [D]: centre, scale to unit RMS, and rotate into D dimensions (a fixed random isometry)."""
    mean_E = vectors_XE.mean(0)
    rms = (vectors_XE - mean_E).square().mean().sqrt()
    rows, columns = max(width, vectors_XE.shape[1]), min(width, vectors_XE.shape[1])
    noise = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(noise).Q
    basis = basis if width >= vectors_XE.shape[1] else basis.T
    weight_DE = basis / rms * math.sqrt(max(1.0, width / vectors_XE.shape[1]))
    return weight_DE, -weight_DE @ mean_E
