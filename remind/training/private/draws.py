"""Poisson sampling of the patients of a private step with the site's secret randomness, and capped weights.

Shapes: N training patients, B of them in a step.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from remind.privacy.noise import Randomness
from remind.training.sampling import Step

Integers = NDArray[np.int64]


def poisson_steps(
    index_N: Integers,
    group_N: Integers,
    relative: Mapping[int, float],
    rate: float,
    number: int,
    secret: bytes,
    question: str,
) -> list[Step]:
    """Draw the steps of a round. An empty step is not skipped, because skipping would reveal that it is empty.

    Parameters
    ----------
    index_N, group_N
        Position in the site's cohort, and group, of each patient.
    relative
        Weight of a patient by group, relative to plain averaging; see `relative_weights`.
    rate
        Probability with which each patient is in a step.
    number
        Number of steps of the round.
    secret, question
        See `Randomness`. The coordinator knows the run's seed and must not know who is in a step; otherwise, sampling
        would not amplify privacy.
    """
    weight_N = np.array([relative[k] for k in group_N.tolist()], dtype=np.float64)
    randomness = Randomness(secret, question, "who is in a step")
    steps = []
    for _ in range(number):
        drawn_N = randomness.bernoulli(len(index_N), rate)
        steps.append(Step(index_N[drawn_N], weight_N[drawn_N]))
    return steps


def relative_weights(
    weights: Mapping[int, float], counts: Mapping[int, int], own: Mapping[int, int], most: float
) -> dict[int, float]:
    """Return a patient's weight relative to plain averaging: r_k = min((λ_k/n_k) / (mean at the site), r_max).

    Parameters
    ----------
    weights, counts
        λ_k, and the published n_k over all sites.
    own
        The published n_{s,k}.
    most
        r_max.
    """
    per_patient = {k: weights[k] / counts[k] for k in weights if counts.get(k, 0) > 0}
    patients = sum(own.get(k, 0) for k in per_patient)
    share = sum(each * own.get(k, 0) for k, each in per_patient.items())
    if share <= 0 or patients <= 0:
        return dict.fromkeys(per_patient, 0.0)
    return {k: min(each * patients / share, most) for k, each in per_patient.items()}
