"""Transformations of a table's numbers before the embedding: quantile normalisation and periodic features.

Shapes: B patients, F columns, Q knots, K frequencies.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from remind.privacy.tape import per_patient

KNOTS = 65
EDGE = 1 / (2 * KNOTS)  # quantile of the first knot; the last is at 1 − EDGE: normal scores stay finite
SPREAD = 0.3  # standard deviation of initial frequencies, in cycles per standard deviation of the number


def knots(value_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values at evenly spaced quantiles of the observed values, (Q,); zeros if there are no values."""
    return np.quantile(value_N, np.linspace(0, 1, KNOTS)) if len(value_N) else np.zeros(KNOTS)


def normal_scores(value_BF: Tensor, knot_FQ: Tensor) -> Tensor:
    """Map each number to the normal quantile of its rank among the training patients, linear between knots; NaN stays.

    Equal knots, as in a column with few different values, get their mean rank. Beyond the outer knots the score is
    constant.
    """
    flat_FB = value_BF.t().contiguous()
    lower_FB = torch.searchsorted(knot_FQ, flat_FB, right=False)
    upper_FB = torch.searchsorted(knot_FQ, flat_FB, right=True)
    last = knot_FQ.shape[1] - 1
    below_FB, above_FB = (upper_FB - 1).clamp(0, last), upper_FB.clamp(0, last)
    left_FB, right_FB = knot_FQ.gather(1, below_FB), knot_FQ.gather(1, above_FB)
    part_FB = ((flat_FB - left_FB) / (right_FB - left_FB).clamp_min(1e-12)).clamp(0, 1)
    between_FB = below_FB + torch.where(above_FB > below_FB, part_FB, 0.0)
    on_FB = (lower_FB + upper_FB - 1).to(value_BF.dtype) / 2  # mean place of the knots that equal the value
    place_FB = torch.where(upper_FB > lower_FB, on_FB, between_FB.to(value_BF.dtype))
    share_FB = EDGE + (1 - 2 * EDGE) * place_FB / last
    score_BF = math.sqrt(2) * torch.erfinv(2 * share_FB - 1).t()
    return torch.where(value_BF.isnan(), value_BF, score_BF)


class Periodic(nn.Module):
    """sin(2π c z) and cos(2π c z) of each number, with K learned frequencies c per column.

    Gorishniy, Rubachev, Babenko, On embeddings for numerical features in tabular deep learning, 2022 (arXiv
    2203.05556); the linear layer that follows in their PLR is the embedding of the table.
    """

    taped = frozenset({"frequency_FK"})

    def __init__(self, columns: int, frequencies: int) -> None:
        super().__init__()
        self.frequency_FK = nn.Parameter(torch.randn(columns, frequencies) * SPREAD)

    def forward(self, z_BF: Tensor) -> Tensor:
        """Expand numbers (B, F) without NaN → (B, F, 2·K)."""
        angle_BFK = 2 * math.pi * z_BF.unsqueeze(2) * per_patient(self.frequency_FK, z_BF.shape[0])
        return torch.cat([angle_BFK.sin(), angle_BFK.cos()], dim=2)
