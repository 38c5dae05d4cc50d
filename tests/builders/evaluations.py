"""Evaluations as a site makes them."""

import numpy as np

from remind.federation.message_statistics import Evaluation
from remind.metrics.statistics import collect


def evaluation(count: int) -> Evaluation:
    rng = np.random.default_rng(count)
    p_B = rng.uniform(0.01, 0.99, count)
    log_p_BC = np.log(np.stack([1 - p_B, p_B], axis=1))
    ones_B, zeros_B = np.ones(count, np.int64), np.zeros(count)
    return Evaluation.of(
        collect(
            ones_B,
            rng.integers(0, 2, count),
            rng.uniform(0, 1, count),
            log_p_BC,
            zeros_B,
            rng.dirichlet(np.ones(4), count),
        )[1]
    )
