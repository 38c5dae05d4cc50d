"""What a hospital says of a model's scores under a privacy guarantee: a coarse histogram with noise, and what follows.

Only the histogram is released: patients by (class, one of `BINS` probabilities) of each combination that the hospital
has said it has. A patient is in one cell, so the noise multiplier is the noise. All other statistics are those of
patients with these probabilities, which tells nothing more. Of the gate and the experts nothing is said.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from remind.metrics.histograms import centres
from remind.metrics.statistics import GroupStatistics, collect
from remind.privacy.noise import Randomness

BINS = 16  # of the probability, of equal width: with more, noise is all there is to see
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def noisy_statistics(
    exact: Mapping[int, GroupStatistics], said: Iterable[int], noise: float, least: int, randomness: Randomness
) -> dict[int, GroupStatistics]:
    """Return the statistics of each combination that has enough patients by its own noisy histogram.

    Parameters
    ----------
    exact
        Statistics of a model with two classes.
    said
        Combinations that the hospital has said it has, whether or not it has patients of them here.
    noise
        Standard deviation of each cell, in patients.
    least
        Combinations with fewer patients, by the sum of their noisy cells, are left out: their scores are mostly noise.
    """
    found = {}
    for group in sorted(said):
        table_2K = coarse(exact[group]) if group in exact else np.zeros((2, BINS))
        noisy_2K = table_2K + np.rint(noise * randomness.normals(2 * BINS)).reshape(2, BINS)
        if noisy_2K.sum() >= max(least, 1):
            found[group] = _statistics(group, whole(noisy_2K))
    return found


def coarse(statistics: GroupStatistics) -> Floats:
    """Return patients by (is it of class 1, bin of the probability of class 1), (2, `BINS`)."""
    table_2K = np.zeros((2, BINS))
    for fine_F, count_2F in statistics.scores.placed():
        odds_F = centres(fine_F).clip(-700, 700)
        bin_F = np.minimum((BINS / (1 + np.exp(-odds_F))).astype(np.int64), BINS - 1)
        for row_K, count_F in zip(table_2K, count_2F, strict=True):
            np.add.at(row_K, bin_F, count_F)
    return table_2K


def whole(noisy_2K: Floats) -> Integers:
    """Return the whole numbers of 0 or more nearest to noisy ones whose sum is theirs, rounded.

    To cut off what is negative alone would add patients: noise on empty cells is half of the time positive.
    """
    values, total = noisy_2K.ravel(), max(0, round(float(noisy_2K.sum())))
    descending = np.sort(values)[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, len(values) + 1)
    shift = excess[np.flatnonzero(descending > excess)[-1]] if total else math.inf
    exact = np.maximum(values - shift, 0.0)
    down = np.floor(exact).astype(np.int64)
    missing = total - int(down.sum())
    down[np.argsort(down - exact, kind="stable")[:missing]] += 1
    return down.reshape(noisy_2K.shape)


def _statistics(group: int, count_2K: Integers) -> GroupStatistics:
    """Return the statistics of patients in the middles of these bins."""
    p_K = (np.arange(BINS) + 0.5) / BINS
    label_N = np.repeat([0, 1], count_2K.sum(axis=1))
    p_N = np.concatenate([np.repeat(p_K, count_K) for count_K in count_2K])
    log_p_NC = np.log(np.stack([1 - p_N, p_N], axis=1))
    loss_N = -log_p_NC[np.arange(len(label_N)), label_N]
    return collect(np.full(len(label_N), group), label_N, loss_N, log_p_NC, np.zeros(len(label_N)))[group]
