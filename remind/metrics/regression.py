"""Scores of numbers, from sums over patients that merge exactly.

z is the standardised target, p the standardised prediction, e = p − z. `MOMENTS` names what is added up; the first sum
is that of the scale, so that scores are in the target's own unit.
"""

import math

from scipy.special import stdtrit

from remind.metrics.intervals import Interval, Z
from remind.metrics.moments import MOMENTS
from remind.metrics.statistics import GroupStatistics


def means(statistics: GroupStatistics) -> dict[str, float]:
    """Return the mean of each moment over the patients."""
    return dict(zip(MOMENTS, (statistics.sums_S / statistics.count).tolist(), strict=True))


def mae(statistics: GroupStatistics) -> float:
    """Return the mean absolute error."""
    own = means(statistics)
    return own["scale"] * own["e1"]


def mae_interval(statistics: GroupStatistics) -> Interval | None:
    """Return Student's interval of the mean absolute error; None for one patient."""
    own, n = means(statistics), statistics.count
    if n < 2:
        return None
    half = _half(n, own["e2"] - own["e1"] ** 2)
    return own["scale"] * max(own["e1"] - half, 0.0), own["scale"] * (own["e1"] + half)


def rmse(statistics: GroupStatistics) -> float:
    """Return the root of the mean squared error."""
    own = means(statistics)
    return own["scale"] * math.sqrt(max(own["e2"], 0.0))


def rmse_interval(statistics: GroupStatistics) -> Interval | None:
    """Return the roots of the ends of Student's interval of the mean squared error; None for one patient."""
    own, n = means(statistics), statistics.count
    if n < 2:
        return None
    half = _half(n, own["e4"] - own["e2"] ** 2)
    return own["scale"] * math.sqrt(max(own["e2"] - half, 0.0)), own["scale"] * math.sqrt(own["e2"] + half)


def r2(statistics: GroupStatistics) -> float | None:
    """Return R² = 1 − Σ e² / Σ (z − z̄)², as scikit-learn's; None if all targets are equal."""
    own = means(statistics)
    spread = own["y2"] - own["y"] ** 2
    return 1 - own["e2"] / spread if spread > 1e-12 * max(own["y2"], 1e-12) else None


def r2_interval(statistics: GroupStatistics) -> Interval | None:
    """Return the interval of R² by the delta method: the variance of the mean of e² − (1 − R²)·(z − z̄)²."""
    value, own, n = r2(statistics), means(statistics), statistics.count
    if value is None or n < 3:
        return None
    m = own["y"]
    spread = own["y2"] - m**2
    fourth = own["y4"] - 4 * m * own["y3"] + 6 * m**2 * own["y2"] - 3 * m**4  # mean of (z − z̄)⁴
    mixed = own["e2y2"] - 2 * m * own["e2y"] + m**2 * own["e2"]  # mean of e²·(z − z̄)²
    ratio = 1 - value
    half = _half(n, own["e4"] - 2 * ratio * mixed + ratio**2 * fourth) / spread
    return value - half, min(value + half, 1.0)


def ccc(statistics: GroupStatistics) -> float | None:
    """Return the concordance correlation 2·s_zp / (s_z² + s_p² + (z̄ − p̄)²) of Lin (1989).

    None if targets and predictions do not vary.
    """
    own = means(statistics)
    below = own["y2"] - own["y"] ** 2 + own["p2"] - own["p"] ** 2 + (own["y"] - own["p"]) ** 2
    if below <= 1e-12 * max(own["y2"] + own["p2"], 1e-12) or r2(statistics) is None:
        return None
    return 2 * (own["yp"] - own["y"] * own["p"]) / below


def ccc_interval(statistics: GroupStatistics) -> Interval | None:
    """Return Lin's interval: the inverse hyperbolic tangent of the coefficient is nearly normal (Lin 1989, 2000)."""
    value, own, n = ccc(statistics), means(statistics), statistics.count
    if value is None or n < 4:
        return None
    spread = (own["y2"] - own["y"] ** 2) * (own["p2"] - own["p"] ** 2)
    if spread <= 0 or abs(value) >= 1 - 1e-12 or abs(value) < 1e-12:
        return (value, value) if abs(value) >= 1 - 1e-12 else None
    r = (own["yp"] - own["y"] * own["p"]) / math.sqrt(spread)
    u2 = (own["y"] - own["p"]) ** 2 / math.sqrt(spread)
    c, rest = value, 1 - value**2
    variance = (1 - r**2) * c**2 / (rest * r**2) + 2 * c**3 * (1 - c) * u2 / (r * rest**2)
    variance = (variance - c**4 * u2**2 / (2 * r**2 * rest**2)) / (n - 2)
    half = Z * math.sqrt(max(variance, 0.0))
    return math.tanh(math.atanh(c) - half), math.tanh(math.atanh(c) + half)


def _half(n: int, variance: float) -> float:
    """Return half of Student's interval of a mean over n patients, from their variance."""
    return float(stdtrit(n - 1, 0.975)) * math.sqrt(max(variance, 0.0) / (n - 1))
