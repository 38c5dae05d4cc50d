"""95 % intervals of the scores, from the same merged statistics: how far a small group's score can be trusted.

Each interval lies within the bounds of its score and contains the estimate; None if the score itself is undefined.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from remind.metrics.formulas import auroc, balanced_accuracy, macro_f1

Z = 1.959963984540054  # standard normal quantile of 0.975

Interval = tuple[float, float]
Integers = NDArray[np.int64]


def wilson(share: float, n: float, z: float = Z) -> Interval:
    """Return Wilson's score interval of a share among n: (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)."""
    scale = 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return min(max(0.0, middle - half), share), max(min(1.0, middle + half), share)


def mean_interval(total: float, squares: float, n: int, most: float) -> Interval:
    """Return Student's interval of a mean over n patients, from the sums of their values 0 … `most` and of the squares.

    The variance includes half a patient more on each side, 1 away or at the end of the range, so that it does not
    vanish if a few patients have nearly the same value. With one patient the interval is 0 … `most`.
    """
    from scipy.special import stdtrit  # a prediction needs no interval, and scipy takes long to import

    if n < 2:
        return 0.0, most
    mean = total / n
    more = (min(mean, 1.0) ** 2 + min(most - mean, 1.0) ** 2) / 2
    spread = max(squares - n * mean**2, 0.0) + more
    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(spread / (n - 1) / n)
    return max(0.0, mean - half), max(min(most, mean + half), mean)


def balanced_accuracy_interval(confusion_CC: Integers) -> Interval | None:
    """Return the interval of the mean recall, from the recalls' Wilson intervals (MOVER: squares of the distances add).

    Recalls of different classes come from different patients, so they are independent.
    """
    estimate = balanced_accuracy(confusion_CC)
    if estimate is None:
        return None
    below = above = 0.0
    n_C = confusion_CC.sum(axis=1)
    classes = np.flatnonzero(n_C)
    for c in classes:
        recall = float(confusion_CC[c, c] / n_C[c])
        low, high = wilson(recall, float(n_C[c]))
        below += ((recall - low) / len(classes)) ** 2
        above += ((high - recall) / len(classes)) ** 2
    return max(0.0, estimate - math.sqrt(below)), min(1.0, estimate + math.sqrt(above))


def macro_f1_interval(confusion_CC: Integers) -> Interval | None:
    """Return the interval of macro-F1 by the delta method on the multinomial confusion table.

    F1_c = 2·p_cc / S_c with S_c = Σ_j p_cj + Σ_j p_jc. The variance is computed at a table with half a patient more in
    each cell, so that it does not vanish for a perfect table of few patients.
    """
    estimate = macro_f1(confusion_CC)
    if estimate is None:
        return None
    used_C = confusion_CC.sum(axis=1) + confusion_CC.sum(axis=0) > 0
    smooth_CC = confusion_CC[np.ix_(used_C, used_C)] + 0.5
    n, classes = float(smooth_CC.sum()), len(smooth_CC)
    p_CC = smooth_CC / n
    s_C = p_CC.sum(axis=1) + p_CC.sum(axis=0)
    slope_C = 2 * np.diag(p_CC) / s_C**2
    gradient_CC = (np.diag(2 / s_C) - slope_C[:, None] - slope_C[None, :]) / classes
    variance = float((gradient_CC**2 * p_CC).sum() - (gradient_CC * p_CC).sum() ** 2) / n
    half = Z * math.sqrt(max(variance, 0.0))
    return max(0.0, estimate - half), min(1.0, estimate + half)


def auroc_interval(histograms: Iterable[Integers]) -> Interval | None:
    """Return the Wilson interval of the AUROC with A(1−A)/Var(A) as effective number of patients, Var by DeLong.

    DeLong's variance is exact for the binned scores. If it vanishes (A is 0 or 1), the size of the smaller class is
    used as that number. With more than two classes, the standard errors of the one-versus-rest AUROCs are averaged, as
    if they were fully correlated.
    """
    values, errors, smallest = [], [], math.inf
    for histogram_2K in histograms:
        found = auroc(histogram_2K)
        if found is not None:
            values.append(found[0])
            errors.append(math.sqrt(delong_variance(histogram_2K)))
            smallest = min(smallest, float(histogram_2K.sum(axis=1).min()))
    if not values:
        return None
    estimate, variance = float(np.mean(values)), float(np.mean(errors)) ** 2
    spread = estimate * (1 - estimate)
    return wilson(estimate, spread / variance if variance > 0 and spread > 0 else smallest)


def delong_variance(histogram_2K: Integers) -> float:
    """Return the variance of the AUROC by DeLong, DeLong and Clarke-Pearson (1988); row 0 the rest, row 1 the class.

    Var(V¹⁰)/m + Var(V⁰¹)/n over the placements of each class's patients among the other's. A class of one patient has
    no variance; the largest possible one, A(1−A), is used instead.
    """
    rest_K, class_K = histogram_2K[0].astype(np.float64), histogram_2K[1].astype(np.float64)
    n, m = float(rest_K.sum()), float(class_K.sum())
    placed_class_K = (np.cumsum(rest_K) - rest_K / 2) / n  # share of the rest with a score below this bin
    placed_rest_K = (m - np.cumsum(class_K) + class_K / 2) / m  # share of the class with a score above it
    area = float((placed_class_K * class_K).sum() / m)

    def variance(placed_K: NDArray[np.float64], weight_K: NDArray[np.float64], number: float) -> float:
        if number < 2:
            return area * (1 - area)
        return float(((placed_K - area) ** 2 * weight_K).sum() / (number - 1))

    return variance(placed_class_K, class_K, m) / m + variance(placed_rest_K, rest_K, n) / n
