"""Robust mean and standard deviation, unaffected by a single typing error: real records contain a pH of 735."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TRIM = 100  # of this many values, the lowest and the highest are excluded


def moments(values: Floats) -> tuple[float, float]:
    """Return mean and standard deviation without the lowest and highest hundredth of the values.

    All values are used if there are fewer than 100, or if the remaining values are equal (a rare flag). Without values
    the result is 0 and 1.
    """
    if not len(values):
        return 0.0, 1.0
    cut = len(values) // TRIM
    inner = np.sort(values)[cut : len(values) - cut]
    chosen = inner if inner.std() > 0 else values
    return float(chosen.mean()), float(chosen.std()) or 1.0
