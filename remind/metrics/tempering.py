"""The temperature of models with three or more classes, from sums that merge exactly.

Histograms of one class against the rest do not determine this temperature. Σ −ln p of the true class is convex in
β = 1/T. Sites send this sum and its slope at a few values of β, and the sums over sites are those of the pooled
patients. `fit_temperature` interpolates the β at which the slope is 0. Its loss is within 1e-4 per patient of the
minimum (`tests/metrics/test_tempering.py`).
Shapes: B patients, C classes, K values of β.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.metrics.statistics import MOST_LOG_LOSS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LOG_BETA_K = np.linspace(-4.0, 3.0, 29)  # T from 1/20 to 55; neighbours differ by 28 %
BETA_K = np.exp(LOG_BETA_K)


@dataclass(frozen=True)
class TemperedSums:
    """Sums over a group's patients at each β of `BETA_K`.

    Attributes
    ----------
    loss_K
        Σ −ln p of the true class.
    slope_K
        Its derivative by β, Σ (Σ_c p_c·z_c − z_true).
    """

    count: int
    loss_K: Floats
    slope_K: Floats

    def __add__(self, other: "TemperedSums") -> "TemperedSums":
        return TemperedSums(self.count + other.count, self.loss_K + other.loss_K, self.slope_K + other.slope_K)


def tempered(group_B: Integers, label_B: Integers, log_p_BC: Floats) -> dict[int, TemperedSums]:
    """Compute the sums of each group. A patient's log-odds are limited to `MOST_LOG_LOSS`, so each term is bounded."""
    z_BC = np.maximum(log_p_BC - log_p_BC.max(axis=1, keepdims=True), -MOST_LOG_LOSS)
    true_B = z_BC[np.arange(len(label_B)), label_B]
    loss_BK, slope_BK = np.empty((len(label_B), len(BETA_K))), np.empty((len(label_B), len(BETA_K)))
    for k, beta in enumerate(BETA_K):
        scaled_BC = beta * z_BC
        log_sum_B = np.logaddexp.reduce(scaled_BC, axis=1)
        loss_BK[:, k] = log_sum_B - beta * true_B
        slope_BK[:, k] = (np.exp(scaled_BC - log_sum_B[:, None]) * z_BC).sum(axis=1) - true_B
    return {
        g: TemperedSums(int(own.sum()), loss_BK[own].sum(axis=0), slope_BK[own].sum(axis=0))
        for g in np.unique(group_B).tolist()
        for own in [group_B == g]
    }


def pooled(parts: Iterable[Mapping[int, TemperedSums]]) -> TemperedSums | None:
    """Return the sum over all parts and groups; None if there are no patients."""
    found: TemperedSums | None = None
    for part in parts:
        for one in part.values():
            found = one if found is None else found + one
    return found


def fit_temperature(sums: TemperedSums, prior: float) -> float:
    """Return T at the minimum of the summed loss plus prior/2·(ln β)², a weak pull towards T = 1.

    If the slope has the same sign everywhere, T is the end of the grid.
    """
    from scipy.interpolate import PchipInterpolator  # the import takes half a second, and a hospital does not need it
    from scipy.optimize import brentq

    slope_K = sums.slope_K * BETA_K + prior * LOG_BETA_K  # by ln β
    if slope_K[0] >= 0:
        return float(1 / BETA_K[0])
    if slope_K[-1] <= 0:
        return float(1 / BETA_K[-1])
    slope = PchipInterpolator(LOG_BETA_K, slope_K)
    k = int(np.flatnonzero(slope_K < 0)[-1])
    return float(np.exp(-brentq(slope, LOG_BETA_K[k], LOG_BETA_K[k + 1], xtol=1e-10)))
