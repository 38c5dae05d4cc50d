"""Statistics for tables of calibration."""

import numpy as np

from remind.metrics.statistics import collect


def overconfident(seed, number=400):
    """Statistics of a model whose log-odds are three times the true ones."""
    rng = np.random.default_rng(seed)
    odds_B = rng.normal(size=number)
    label_B = (rng.random(number) < 1 / (1 + np.exp(-odds_B))).astype(np.int64)
    log_p_BC = -np.logaddexp(0, np.stack([3 * odds_B, -3 * odds_B], axis=1))
    return collect(rng.choice([1, 3], size=number), label_B, np.zeros(number), log_p_BC, np.zeros(number))


TEST, VALIDATION = ({"x": overconfident(a), "y": overconfident(b)} for a, b in ((0, 1), (2, 3)))
