"""Cohen's κ with quadratic weights, of ordered classes."""

import math

import numpy as np
from numpy.typing import NDArray

from remind.metrics.intervals import Interval, Z
from remind.metrics.score import Score, register
from remind.metrics.statistics import GroupStatistics


def _parts(statistics: GroupStatistics) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float] | None:
    """Return shares and weights 1 − (i − j)²/(C − 1)², (C, C), and the weighted agreement, observed and by chance."""
    p_CC = statistics.confusion_CC / statistics.count
    order_C = np.arange(len(p_CC))
    w_CC = 1 - (order_C[:, None] - order_C) ** 2 / (len(p_CC) - 1) ** 2
    chance = float(p_CC.sum(axis=1) @ w_CC @ p_CC.sum(axis=0))
    return None if chance >= 1 - 1e-12 else (p_CC, w_CC, float((w_CC * p_CC).sum()), chance)


def weighted_kappa(statistics: GroupStatistics) -> float | None:
    """Return (p_o − p_e)/(1 − p_e); None if all patients are of one class and are called so."""
    found = _parts(statistics)
    return None if found is None else (found[2] - found[3]) / (1 - found[3])


def interval(statistics: GroupStatistics) -> Interval | None:
    """Return the large-sample interval of Fleiss, Cohen and Everitt (1969)."""
    found = _parts(statistics)
    if found is None:
        return None
    p_CC, w_CC, seen, chance = found
    value = (seen - chance) / (1 - chance)
    row_C, column_C = w_CC @ p_CC.sum(axis=0), p_CC.sum(axis=1) @ w_CC
    inside_CC = w_CC - (row_C[:, None] + column_C) * (1 - value)
    variance = float((p_CC * inside_CC**2).sum()) - (value - chance * (1 - value)) ** 2
    half = Z * math.sqrt(max(variance, 0.0) / statistics.count) / (1 - chance)
    return max(value - half, -1.0), min(value + half, 1.0)


register(
    Score(
        "weighted_kappa",
        "weighted κ",
        "κ",
        "agreement of the likeliest class with the true one beyond chance, where near misses count less (quadratic)",
        weighted_kappa,
        interval,
        within_one=False,
        two_classes=True,
        outcomes=("ordinal",),
    )
)
