"""Mean and standard deviation that one slip of the pen cannot move: real charts hold a pH of 735."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TRIM = 0.01  # share of the values left out at each end


def moments(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation of the values between the 1st and the 99th percentile.

    Where those are all alike (a rare flag), of all values; 0 and 1 where there is nothing to learn from.
    """
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [TRIM, 1 - TRIM])
    inner = values[(values >= low) & (values <= high)]
    chosen = inner if len(inner) and inner.std() > 0 else values
    return float(chosen.mean()), float(chosen.std()) or 1.0
