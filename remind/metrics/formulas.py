"""Computes accuracy, balanced accuracy, macro-F1 and AUROC from confusion tables and score histograms.

A function returns None if its score is undefined. Shapes: C classes, K bins.
"""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def accuracy(confusion_CC: Integers) -> float:
    """Return the share of patients whose predicted class is the true one."""
    return float(np.trace(confusion_CC) / confusion_CC.sum())


def balanced_accuracy(confusion_CC: Integers) -> float | None:
    """Return the mean recall over the classes that occur; None if only one class occurs."""
    n_C = confusion_CC.sum(axis=1)
    occurs = n_C > 0
    return float(np.mean(np.diag(confusion_CC)[occurs] / n_C[occurs])) if occurs.sum() > 1 else None


def macro_f1(confusion_CC: Integers) -> float | None:
    """Return the mean F1 = 2·TP / (true + predicted) over classes that occur or were predicted (as scikit-learn).

    None if only one class occurs: a constant answer would then have a perfect score.
    """
    if (confusion_CC.sum(axis=1) > 0).sum() < 2:
        return None
    either_C = confusion_CC.sum(axis=1) + confusion_CC.sum(axis=0)
    used = either_C > 0
    return float(np.mean(2 * np.diag(confusion_CC)[used] / either_C[used]))


def auroc(histogram_2K: Integers) -> tuple[float, float] | None:
    """Return AUROC and its bound from a score histogram, row 0 the rest and row 1 the class.

    None if one of them is empty.

    Columns are bins in ascending order; empty bins may be omitted.

    Pairs within one bin count one half. Their true contribution is between none and all of them, so the error is at
    most half of their share of all pairs.
    """
    rest_K, class_K = histogram_2K[0].astype(np.float64), histogram_2K[1].astype(np.float64)
    pairs = rest_K.sum() * class_K.sum()
    if pairs == 0:
        return None
    below_K = np.concatenate([[0.0], np.cumsum(rest_K)[:-1]])
    tied = float((rest_K * class_K).sum())
    return (float((below_K * class_K).sum()) + tied / 2) / pairs, tied / 2 / pairs
