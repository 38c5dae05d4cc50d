"""Noisy counts: the numbers of patients per modality combination that a site publishes once, with noise.

If only the combinations that occur had noise, the published list would reveal which combinations occur. Therefore each
of the 2^m − 1 possible combinations gets noise, and the site publishes the counts above a threshold that hides most
empty combinations. The site does not train on a combination below the threshold. Weights, rates and normalisers are
computed from the published counts and reveal nothing more.
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
    """Return the published combinations with their noisy counts, which are at least 1.

    One patient changes one count by 1, so the noise multiplier is `noise`.

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
    noisy = np.rint(exact + noise * randomness.normals(len(groups))).astype(np.int64)
    published = noisy >= count_threshold(modalities, noise)
    return {int(k): int(n) for k, n in zip(groups[published], noisy[published], strict=True)}


def count_threshold(modalities: int, noise: float) -> int:
    """Return the smallest count that is published. At most about one empty combination is expected to exceed it."""
    usual = NormalDist().inv_cdf(1 - 2.0**-modalities)
    return max(1, math.ceil(noise * max(LEAST_FLOOR, usual)))
