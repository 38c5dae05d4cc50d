"""Mean and standard deviation that one slip of the pen cannot move: real charts hold a pH of 735."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TRIM = 100  # of so many values, the lowest and the highest are left out


def moments(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation of the values but for the lowest and highest hundredth; of fewer than 100, of all.

    Where those are all alike (a rare flag), of all values; 0 and 1 where there is nothing to learn from.
    """
    if not len(values):
        return 0.0, 1.0
    cut = len(values) // TRIM
    inner = np.sort(values)[cut : len(values) - cut]
    chosen = inner if inner.std() > 0 else values
    return float(chosen.mean()), float(chosen.std()) or 1.0
