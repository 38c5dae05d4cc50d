"""How many patients of each combination a site says it has: once, with noise, of every combination that there could be.

Noise on the combinations that occur alone would tell which do. So every one of the 2^m − 1 gets it, and a site says
those that stay above a floor, which hides most of the empty ones; a combination that the site has and that stays below
is not trained on. What follows from these numbers (weights, rates, normalisers) tells nothing more.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from remind.errors import UserError
from remind.privacy.noise import Randomness

MOST_MODALITIES = 16  # 65 535 combinations
LEAST_FLOOR = 2.0  # in units of the noise


def noisy_counts(counts: Mapping[int, int], modalities: int, noise: float, randomness: Randomness) -> dict[int, int]:
    """Return the combinations that the site says it has, with numbers of patients of 1 or more.

    One patient moves one count by 1: the noise multiplier is `noise`.

    Parameters
    ----------
    counts
        n_{s,k}, exact.
    modalities
        m of the cohort's schema, which is public.
    noise
        Standard deviation, in patients.

    Raises
    ------
    UserError
        There are too many combinations.
    """
    if modalities > MOST_MODALITIES:
        raise UserError(
            f"privacy.mode: {modalities} modalities have 2^{modalities} combinations, too many to count with noise; "
            f"at most {MOST_MODALITIES} modalities"
        )
    groups = np.arange(1, 2**modalities)
    exact = np.array([counts.get(int(k), 0) for k in groups])
    said = np.rint(exact + noise * randomness.normals(len(groups))).astype(np.int64)
    shown = said >= floor_of(modalities, noise)
    return {int(k): int(n) for k, n in zip(groups[shown], said[shown], strict=True)}


def floor_of(modalities: int, noise: float) -> int:
    """Return the least count that is said: of all empty combinations about one stays above it, or fewer."""
    usual = NormalDist().inv_cdf(1 - 2.0**-modalities)
    return max(1, math.ceil(noise * max(LEAST_FLOOR, usual)))
