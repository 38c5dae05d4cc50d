"""Who takes part in a private step: each patient by a coin of the site's own, with a weight that is capped.

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
    """Draw the steps of a round; a step of nobody is a step too, as whether one is empty tells of the patients.

    Parameters
    ----------
    index_N, group_N
        Position in the site's cohort, and group, of each patient.
    relative
        Weight of a patient by group, in units of plain averaging: see `relative_weights`.
    rate
        Chance of each patient to be in a step.
    number
        Steps of the round.
    secret, question
        Of the site, and the digest of what it answers: see `Randomness`. The coordinator, which knows the run's seed,
        must not know who is in a step: else sampling protects nobody.
    """
    weight_N = np.array([relative[k] for k in group_N.tolist()], dtype=np.float64)
    randomness = Randomness(secret, question, "who is in a step")
    steps = []
    for _ in range(number):
        drawn_N = randomness.chosen(len(index_N), rate)
        steps.append(Step(index_N[drawn_N], weight_N[drawn_N]))
    return steps


def relative_weights(
    weights: Mapping[int, float], counts: Mapping[int, int], own: Mapping[int, int], most: float
) -> dict[int, float]:
    """Return r_k = min(λ_k/n_k ÷ the site's mean of it, r_max), a patient's weight in units of plain averaging.

    Parameters
    ----------
    weights, counts
        λ_k and the n_k of all sites, as published.
    own
        n_{s,k}, as published.
    most
        r_max.
    """
    per_patient = {k: weights[k] / counts[k] for k in weights if counts.get(k, 0) > 0}
    patients = sum(own.get(k, 0) for k in per_patient)
    share = sum(each * own.get(k, 0) for k, each in per_patient.items())
    if share <= 0 or patients <= 0:
        return dict.fromkeys(per_patient, 0.0)
    return {k: min(each * patients / share, most) for k, each in per_patient.items()}
