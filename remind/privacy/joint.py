"""Noise that several hospitals make together, each its share, in sums that nobody sees before they are summed.

A hospital rounds its sum to a grid of C/2^16 and adds an integer to each number: a normal number, rounded, of standard
deviation σ·2^16/√h, where h is how many hospitals at least are in the sum and keep their share to themselves
(`remind.secagg.limits.least_honest`). Masks work on the same integers, so that the sum is exact: of all sums, and of
at least h shares, whose variances add up to (σ·2^16)².

What rounding does is counted in:

- of the sums: two sums that differ by a patient may be rounded apart by one step in each of d numbers, √d steps in all.
  So patients are clipped at C − √d steps (`clip_for`), and the integers differ by C at most.
- of the noise: a rounded normal number is N(0, s²) plus a uniform number of one step's width, seen at whole numbers
  alone (the chance of k is the density of that sum at k). So a sum of h shares is a normal number of variance h·s² plus
  what does not depend on patients, seen at whole numbers. The first costs what a Gaussian mechanism costs, what is
  added to it nothing, and seeing whole numbers alone changes a Rényi divergence by a factor of the order of
  exp(−2π²·h·s²): nothing at all from `LEAST_SHARE` steps on (`tests/privacy/test_joint.py` computes it).
"""

import math
from typing import Final

import numpy as np

from remind.errors import UserError
from remind.privacy.noise import STEPS_PER_CLIP, Floats, Integers, Randomness

LEAST_SHARE: Final = 4.0  # steps: standard deviation of a share
_PIECE: Final = 1 << 15


def share_of(noise: float, hospitals: int) -> float:
    """Return the noise multiplier σ/√h of each of h hospitals, whose shares add up to σ."""
    if hospitals < 1:
        raise ValueError("noise cannot be shared among no hospital")
    return noise / math.sqrt(hospitals)


def clip_for(clip: float, numbers: int) -> float:
    """Return the norm at which patients are clipped, so that sums of so many numbers differ by C after rounding.

    Raises
    ------
    UserError
        Rounding alone could move the sums by C.
    """
    lost = math.sqrt(numbers) / STEPS_PER_CLIP
    if lost >= 1:
        raise UserError(
            f"privacy.mode = 'joint': {numbers} numbers are too many for a grid of {STEPS_PER_CLIP} steps; take a "
            "smaller model, or train less of it"
        )
    return clip * (1 - lost)


def shared_steps(exact: Floats, bound: float, share: float, most: int, randomness: Randomness) -> Integers:
    """Return a sum with this hospital's share of the noise, in steps of bound/2^16.

    Parameters
    ----------
    exact
        The sum, any shape.
    bound
        C: how far a patient moves the rounded sum.
    share
        Noise multiplier of this hospital: `share_of`.
    most
        Larger numbers are cut to this size, so that sums do not wrap around. It happens after the noise, so it costs
        nothing; and only where so many patients pull at one number that the sum is past telling them apart anyway.

    Raises
    ------
    UserError
        The noise is too small for the grid.
    ValueError
        The sum is not finite.
    """
    deviation = share * STEPS_PER_CLIP
    if deviation < LEAST_SHARE:
        raise UserError(f"privacy.noise: a share of {share:g} is too little to be told from rounding; take more")
    if not np.isfinite(exact).all():
        raise ValueError("a sum that noise is to be added to is not finite")
    flat = np.asarray(exact, dtype=np.float64).reshape(-1)
    found = np.empty(len(flat), dtype=np.int64)
    for start in range(0, len(flat), _PIECE):
        piece = np.rint(flat[start : start + _PIECE] * (STEPS_PER_CLIP / bound))
        noise = np.rint(deviation * randomness.normals(len(piece)))
        found[start : start + _PIECE] = np.clip(piece + noise, -most, most).astype(np.int64)
    return found.reshape(np.shape(exact))


def in_units(steps: Integers | Floats, bound: float) -> Floats:
    """Return a sum of steps as numbers again."""
    return np.asarray(steps, dtype=np.float64) * (bound / STEPS_PER_CLIP)
