"""Statistics of two sites with common and rare groups."""

import numpy as np

from remind.metrics.aggregates import examine, scope_of
from remind.metrics.statistics import collect


def group_of(group: int, number: int, positives: int, skill: float = 1.0, seed: int = 0):
    """Statistics of one group with so many patients of class 1."""
    rng = np.random.default_rng(seed + group)
    label_B = (np.arange(number) < positives).astype(np.int64)
    odds_B = rng.normal(size=number) + skill * (label_B - 0.5)
    log_p_BC = -np.logaddexp(0.0, np.stack([odds_B, -odds_B], axis=1))
    return collect(np.full(number, group), label_B, np.ones(number), log_p_BC, np.zeros(number))


COUNTS = {1: 900, 2: 40, 4: 30, 8: 30}


TEST = {
    "x": group_of(1, 80, 30) | group_of(2, 25, 10) | group_of(4, 40, 0),
    "y": group_of(1, 60, 20, seed=9)
    | group_of(2, 10, 4, seed=9)
    | group_of(16, 35, 11)
    | group_of(32, 29, 9, skill=-9.0),
}


MODEL = examine(TEST)


SCOPE = scope_of(MODEL, COUNTS)
