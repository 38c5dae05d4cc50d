"""Scores that move a threshold over a score histogram: average precision, sensitivity, specificity, net benefit.

A function returns None if its score is undefined. Where a bin leaves the order of its patients open, a bound says how
far the value of the unbinned scores may be from the returned one. Shapes: K bins of one class against the rest, in
ascending order (row 0 the rest, row 1 the class; `ScoreHistograms.placed`).
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from remind.metrics.intervals import Interval, Z, wilson

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Placed = tuple[Integers, Integers]

SPECIFICITY = 0.9  # at which the score `sensitivity` is read
NET_BENEFIT_ODDS = -355 / 256  # the edge of bins next to the log-odds of 0.2, so that net benefit is exact
NET_BENEFIT_AT = 1 / (1 + math.exp(-NET_BENEFIT_ODDS))  # 0.19995


def average_precision(histogram_2K: Integers) -> tuple[float, float] | None:
    """Return the area under the precision-recall curve as average precision Σ (R_k − R_{k−1})·P_k, and its bound.

    None if the class or the rest is empty. Patients of one bin count as tied, as scikit-learn counts equal scores. The
    bound is the distance to the better or the worse extreme: in each bin all of the class above all of the rest, or
    below.
    """
    rest_K, class_K = histogram_2K[:, ::-1].astype(np.float64)
    positives = class_K.sum()
    if positives == 0 or rest_K.sum() == 0:
        return None
    hits_K, misses_K = np.cumsum(class_K), np.cumsum(rest_K)
    tied = float((class_K * hits_K / (hits_K + misses_K)).sum() / positives)
    before_K = hits_K - class_K
    best = _apart(before_K, misses_K - rest_K, class_K) / positives
    worst = _apart(before_K, misses_K, class_K) / positives
    return tied, max(best - tied, tied - worst, 0.0)


def _apart(hits_K: Floats, misses_K: Floats, class_K: Floats) -> float:
    """Return Σ over bins and their patients of the class, one by one, of (hits + i)/(hits + misses + i)."""
    seen_K = hits_K + misses_K
    missed_K = misses_K * (digamma(seen_K + class_K + 1) - digamma(seen_K + 1))
    return float((class_K - missed_K).sum())


def sensitivity_at(histogram_2K: Integers, specificity: float = SPECIFICITY) -> tuple[float, float] | None:
    """Return the highest sensitivity with at least this specificity, over thresholds between bins, and its bound.

    None if the class or the rest is empty. A threshold inside the next bin might reach more of the class's patients in
    that bin; the bound is their share.
    """
    rest_K, class_K = histogram_2K[:, ::-1]
    negatives, positives = int(rest_K.sum()), int(class_K.sum())
    if not negatives or not positives:
        return None
    false_K = np.cumsum(rest_K)
    passed = int((false_K <= (1 - specificity) * negatives + 1e-9).sum())
    inside = int(class_K[passed]) if passed < len(class_K) else 0
    return float(class_K[:passed].sum() / positives), inside / positives


def net_benefit(histogram_2K: Integers, above_K: NDArray[np.bool_], at: float) -> float:
    """Return TP/n − FP/n·t/(1 − t) where the patients of the bins `above_K` are treated, at the probability t.

    Vickers and Elkin (2006): treating nobody has net benefit 0; a false positive costs t/(1 − t) of a true positive.
    """
    rest_K, class_K = histogram_2K
    odds = at / (1 - at)
    return float((class_K[above_K].sum() - odds * rest_K[above_K].sum()) / histogram_2K.sum())


def net_benefit_interval(histogram_2K: Integers, above_K: NDArray[np.bool_], at: float) -> Interval:
    """Return the interval of a mean of 1, −t/(1 − t) or 0 per patient; half a patient is added to each."""
    rest_K, class_K = histogram_2K
    n = float(histogram_2K.sum())
    value_3 = np.array([1.0, -at / (1 - at), 0.0])
    hits, misses = float(class_K[above_K].sum()), float(rest_K[above_K].sum())
    share_3 = (np.array([hits, misses, n - hits - misses]) + 0.5) / (n + 1.5)
    variance = float((share_3 * value_3**2).sum() - (share_3 * value_3).sum() ** 2)
    estimate, half = net_benefit(histogram_2K, above_K, at), Z * math.sqrt(variance / n)
    return estimate - half, estimate + half


def precision_interval(histograms: Iterable[Integers]) -> Interval | None:
    """Return Wilson's interval of the average precision, with the patients of the class as its number.

    Boyd, Eng and Page (2013) found binomial intervals of this kind to hold their level. Over several classes the
    smallest class counts, as if the classes' values were fully correlated.
    """
    values, smallest = [], math.inf
    for histogram_2K in histograms:
        if (found := average_precision(histogram_2K)) is not None:
            values.append(found[0])
            smallest = min(smallest, float(histogram_2K[1].sum()))
    return wilson(float(np.mean(values)), smallest) if values else None


def sensitivity_interval(histograms: Iterable[Integers]) -> Interval | None:
    """Return Wilson's interval of the mean sensitivity, with the patients of the smallest class as its number.

    The threshold is treated as fixed: the interval does not include its uncertainty, which comes from the rest.
    """
    values, smallest = [], math.inf
    for histogram_2K in histograms:
        if (found := sensitivity_at(histogram_2K)) is not None:
            values.append(found[0])
            smallest = min(smallest, float(histogram_2K[1].sum()))
    return wilson(float(np.mean(values)), smallest) if values else None
