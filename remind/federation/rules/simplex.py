"""The probability simplex."""

from collections.abc import Mapping

import numpy as np

from remind.objectives.weighting import Unit


def project(values: Mapping[Unit, float]) -> dict[Unit, float]:
    """Project `values` on the simplex (Duchi et al. 2008): max(v − θ, 0) with θ such that it sums to 1."""
    units = sorted(values)
    v = np.array([values[unit] for unit in units])
    descending = np.sort(v)[::-1]
    excess = np.cumsum(descending) - 1
    kept = np.nonzero(descending * np.arange(1, len(v) + 1) > excess)[0][-1]
    nearest = np.maximum(v - excess[kept] / (kept + 1), 0.0)
    return dict(zip(units, (nearest / nearest.sum()).tolist(), strict=True))


def ascend(weights: Mapping[Unit, float], gradient: Mapping[Unit, float], step: float) -> dict[Unit, float]:
    """Take the step λ ← Π(λ + step·∇) among the units with a gradient; the others keep their weight."""
    moving = sorted(unit for unit in gradient if unit in weights)
    mass = sum(weights[unit] for unit in moving)
    if not moving or mass <= 0:
        return dict(weights)
    nearest = project({unit: weights[unit] / mass + step * gradient[unit] / mass for unit in moving})
    return {**weights, **{unit: mass * nearest[unit] for unit in moving}}
