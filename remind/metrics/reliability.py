"""Reliability curves and the expected calibration error: predicted probabilities against observed shares.

Both are computed from the merged score histograms, which sites send anyway. A reliability bin is a range of predicted
probability with a width of .1. Its edges are moved to the nearest edge between the histograms' bins (by less than
.001), so that the bin of every patient is known. Shapes: K filled bins of one histogram, R reliability bins.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.metrics.histograms import ScoreHistograms, bins, centres
from remind.metrics.intervals import Interval, Z

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Placed = tuple[Integers, Integers]
Odds = Callable[[Floats], Floats]  # log-odds → calibrated log-odds, ascending

BINS = 10
ECE_BOUND = 0.0005  # of an ECE to that of the unbinned scores, on the same reliability bins


@dataclass(frozen=True)
class Curve:
    """A reliability curve: patients of each bin, those of the class, and the mean predicted probability.

    Attributes
    ----------
    edge_R
        Upper ends of the bins in probability.
    n_R, positives_R
        Patients, and those of the class.
    predicted_R
        Mean predicted probability; 0 in an empty bin.
    """

    edge_R: Floats
    n_R: Integers
    positives_R: Integers
    predicted_R: Floats


def unchanged(odds_K: Floats) -> Floats:
    """Return the log-odds as they are."""
    return odds_K


def probability(odds_K: Floats) -> Floats:
    """Return p of log-odds."""
    p_K: Floats = np.exp(-np.logaddexp(0.0, -odds_K))
    return p_K


def curve(placed: Placed, calibrated: Odds = unchanged) -> Curve:
    """Return the reliability curve of a histogram; `calibrated` is applied to the scores first."""
    bins_K, (rest_K, class_K) = placed
    p_K = probability(calibrated(centres(bins_K)))
    edge_R = np.arange(1, BINS + 1) / BINS
    if calibrated is unchanged:  # edges between bins of the histogram, which no patient's score straddles
        inner_R = np.log(edge_R[:-1] / (1 - edge_R[:-1]))
        place_K = np.searchsorted(bins(inner_R), bins_K, side="right")
    else:
        place_K = np.minimum((p_K * BINS).astype(np.int64), BINS - 1)
    n_R = np.bincount(place_K, rest_K + class_K, BINS)
    sum_R = np.bincount(place_K, (rest_K + class_K) * p_K, BINS)
    positives_R = np.bincount(place_K, class_K, BINS)
    predicted_R = np.divide(sum_R, n_R, out=np.zeros(BINS), where=n_R > 0)
    return Curve(edge_R, n_R.astype(np.int64), positives_R.astype(np.int64), predicted_R)


def curves(histograms: ScoreHistograms) -> list[Curve]:
    """Return the reliability curve of each class scored: of class 1, or beyond two classes of all."""
    return [curve(placed) for placed in histograms.placed()]


def ece(found: Curve) -> float:
    """Return Σ_r n_r/n·|share of the class − mean predicted probability| (Naeini et al. 2015; Guo et al. 2017)."""
    filled_R = found.n_R > 0
    n_R, share_R = found.n_R[filled_R], found.positives_R[filled_R] / found.n_R[filled_R]
    return float((n_R * np.abs(share_R - found.predicted_R[filled_R])).sum() / n_R.sum())


def chance(found: Curve) -> float:
    """Return approximately the ECE of a perfectly calibrated model on this many patients: Σ_r n_r/n·√(2p(1−p)/πn_r).

    With few patients the ECE is never 0, because a share of few patients is never exactly p. A measured ECE near this
    value is therefore no evidence of miscalibration.
    """
    filled_R = found.n_R > 0
    n_R, p_R = found.n_R[filled_R], found.predicted_R[filled_R]
    return float((n_R * np.sqrt(2 * p_R * (1 - p_R) / (math.pi * n_R))).sum() / n_R.sum())


def ece_interval(curves: Iterable[Curve]) -> Interval | None:
    """Return the interval of the mean ECE over classes; its lower end allows for what chance alone shows.

    By the delta method each bin's |share − p| varies like the share. The bias of small bins is upward, so the expected
    chance error (`chance`) is taken from the lower end. Classes are averaged as if they were fully correlated.
    """
    values, errors, biases = [], [], []
    for found in curves:
        n_R = found.n_R[found.n_R > 0].astype(np.float64)
        share_R = (found.positives_R[found.n_R > 0] + 0.5) / (n_R + 1)  # so that a pure bin of few still varies
        values.append(ece(found))
        errors.append(math.sqrt(float((n_R * share_R * (1 - share_R)).sum())) / float(n_R.sum()))
        biases.append(chance(found))
    if not values:
        return None
    estimate, half = float(np.mean(values)), Z * float(np.mean(errors))
    return max(0.0, estimate - half - float(np.mean(biases))), min(1.0, estimate + half)
