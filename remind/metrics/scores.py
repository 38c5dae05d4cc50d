"""Accuracy, balanced accuracy, macro-F1 and AUROC from merged statistics (algorithm §4.14).

None where a score is undefined: balanced accuracy and AUROC need two classes among the patients.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.metrics.statistics import GroupStatistics

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """What the tables show of a group of patients.

    Attributes
    ----------
    n, positives
        Patients, and those of class 1 (two classes only).
    auroc, auroc_bound
        One-versus-rest AUROC, macro-averaged over classes beyond two, and how far at most it lies from the AUROC of
        the unbinned scores.
    """

    n: int
    positives: int | None
    accuracy: float
    balanced_accuracy: float | None
    macro_f1: float
    auroc: float | None
    auroc_bound: float | None
    loss: float


def scores(statistics: GroupStatistics) -> Scores:
    """Scores of the patients behind the statistics."""
    confusion_CC = statistics.confusion_CC
    curves = [auroc(histogram_2K) for histogram_2K in statistics.scores.each()]
    defined = [curve for curve in curves if curve is not None]
    return Scores(
        n=statistics.count,
        positives=int(confusion_CC[1].sum()) if len(confusion_CC) == 2 else None,
        accuracy=float(np.trace(confusion_CC) / statistics.count),
        balanced_accuracy=balanced_accuracy(confusion_CC),
        macro_f1=macro_f1(confusion_CC),
        auroc=float(np.mean([value for value, _ in defined])) if defined else None,
        auroc_bound=float(np.mean([bound for _, bound in defined])) if defined else None,
        loss=statistics.loss,
    )


def balanced_accuracy(confusion_CC: Integers) -> float | None:
    """Mean recall over the classes that occur; None if one class alone occurs."""
    n_C = confusion_CC.sum(axis=1)
    occurs = n_C > 0
    return float(np.mean(np.diag(confusion_CC)[occurs] / n_C[occurs])) if occurs.sum() > 1 else None


def macro_f1(confusion_CC: Integers) -> float:
    """Mean F1 = 2·TP / (true + predicted) over the classes that occur or were predicted, as scikit-learn has it."""
    either_C = confusion_CC.sum(axis=1) + confusion_CC.sum(axis=0)
    used = either_C > 0
    return float(np.mean(2 * np.diag(confusion_CC)[used] / either_C[used]))


def auroc(histogram_2K: Integers) -> tuple[float, float] | None:
    """AUROC and its bound from a score histogram, row 0 the rest and row 1 the class; None if one of them is empty.

    Columns are bins in ascending order; empty ones may be left out.

    Pairs within one bin count a half. Their true contribution lies between none and all, so the error is at most
    half of their share of all pairs.
    """
    rest_K, class_K = histogram_2K[0].astype(np.float64), histogram_2K[1].astype(np.float64)
    pairs = rest_K.sum() * class_K.sum()
    if pairs == 0:
        return None
    below_K = np.concatenate([[0.0], np.cumsum(rest_K)[:-1]])
    tied = float((rest_K * class_K).sum())
    return (float((below_K * class_K).sum()) + tied / 2) / pairs, tied / 2 / pairs


def experts_in_effect(use_E: Floats) -> float | None:
    """Number of equally used experts that would be as spread out: exp of the entropy of the weights; 1 … E.

    None where no expert has any weight.
    """
    weight = float(use_E.sum())
    if weight <= 0:
        return None
    p_E = use_E[use_E > 0] / weight
    return float(np.exp(-(p_E * np.log(p_E)).sum()))
