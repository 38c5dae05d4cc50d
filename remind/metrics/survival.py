"""Scores of survival, from counts by interval, event and binned risk, and from sums of squared errors.

All of them merge exactly over sites, weights for censoring included, because these follow from the merged counts. Time
counts in intervals: two events in one interval are not compared; who survived that interval has the longer time.
Shapes: K intervals, F filled cells, R filled bins of the risk.
"""

import math

import numpy as np
from numpy.typing import NDArray

from remind.metrics.histograms import BINS
from remind.metrics.intervals import Interval, wilson
from remind.metrics.statistics import GroupStatistics

Floats = NDArray[np.float64]
LEAST_UNCENSORED = 1e-6  # below, nobody is left whose weight would mean anything


def cells(statistics: GroupStatistics) -> tuple[Floats, Floats]:
    """Return patients without and with the event by interval and risk, (K + 1, R) each; risks ascend."""
    code_F, count_F = statistics.scores.code_F, statistics.scores.count_F.astype(np.float64)
    place_F, event_F = code_F // BINS // 2, code_F // BINS % 2
    bins_R, column_F = np.unique(code_F % BINS, return_inverse=True)
    shape = (intervals_of(statistics) + 1, len(bins_R))
    censored, event = np.zeros(shape), np.zeros(shape)
    np.add.at(censored, (place_F[event_F == 0], column_F[event_F == 0]), count_F[event_F == 0])
    np.add.at(event, (place_F[event_F == 1], column_F[event_F == 1]), count_F[event_F == 1])
    return censored, event


def intervals_of(statistics: GroupStatistics) -> int:
    """Return K, of K·(K + 2) sums."""
    return math.isqrt(len(statistics.sums_S) + 1) - 1


def uncensored(statistics: GroupStatistics) -> Floats:
    """Return G: the Kaplan-Meier share that is not censored before the end of each interval, (K,).

    Patients who are censored after c intervals leave before interval c begins.
    """
    censored, event = cells(statistics)
    left_k, every_k = censored.sum(axis=1), (censored + event).sum(axis=1)
    risk_k = every_k[::-1].cumsum()[::-1]
    share_k = np.divide(left_k, risk_k, out=np.zeros_like(left_k), where=risk_k > 0)
    return np.cumprod(1 - share_k)[:-1]


def concordance(statistics: GroupStatistics, weighted: bool = False) -> tuple[float, float, float] | None:
    """Return Harrell's C, its bound, and its variance; `weighted`: Uno's (2011), pairs weighted by 1/G².

    A pair counts if the event of one is in an earlier interval than the event or the last sight of the other. Pairs in
    one bin of risk count one half, so that the error is at most half of their share. The variance is that of the
    projection of this ratio of U-statistics, Σ_i (c_i − C·p_i)²/P², over patients i with c_i concordant of p_i pairs,
    P pairs in all. None if no pair can be compared.
    """
    censored, event = cells(statistics)
    every = censored + event
    weight_k = np.ones(len(every))
    if weighted:
        g_k = uncensored(statistics)
        weight_k[:-1] = np.where(g_k > LEAST_UNCENSORED, 1 / np.maximum(g_k, LEAST_UNCENSORED) ** 2, 0.0)
    later = every[::-1].cumsum(axis=0)[::-1] - every  # patients of later intervals, by risk
    # an event against those who come later: lower risks are concordant
    lower, total_k = later.cumsum(axis=1) - later, later.sum(axis=1, keepdims=True)
    good_first, pairs_first = weight_k[:, None] * (lower + later / 2), weight_k[:, None] * total_k
    # one who comes later against events before: higher risks are concordant
    weighed = weight_k[:, None] * event
    earlier = weighed.cumsum(axis=0) - weighed
    higher = earlier[:, ::-1].cumsum(axis=1)[:, ::-1] - earlier
    good_second, pairs_second = higher + earlier / 2, earlier.sum(axis=1, keepdims=True)
    pairs = float((event * pairs_first).sum())
    if pairs <= 0:
        return None
    value = float((event * good_first).sum()) / pairs
    tied = float((event * weight_k[:, None] * later).sum())
    residual_event = good_first + good_second - value * (pairs_first + pairs_second)
    residual_censored = good_second - value * pairs_second
    spread = float((event * residual_event**2).sum() + (censored * residual_censored**2).sum())
    return value, tied / 2 / pairs, spread / pairs**2


def concordance_interval(statistics: GroupStatistics, weighted: bool = False) -> Interval | None:
    """Return Wilson's interval with C·(1 − C)/Var(C) as number of patients; the events where the variance vanishes."""
    if (found := concordance(statistics, weighted)) is None:
        return None
    value, _, variance = found
    spread = value * (1 - value)
    return wilson(value, spread / variance if variance > 0 and spread > 0 else float(cells(statistics)[1].sum()))


def integrated_brier(statistics: GroupStatistics) -> float | None:
    """Return the Brier score of S(t_k), weighted for censoring (Graf et al. 1999), averaged over the time until t_K.

    BS(t_k) = 1/n · Σ [S_i(t_k)²·1(event in j ≤ k)/G_j + (1 − S_i(t_k))²·1(seen beyond k)/G_k], each t_k with the length
    of its interval. Ends after which everybody is censored are left out; None if no end is left.
    """
    n, k = statistics.count, intervals_of(statistics)
    g_K = uncensored(statistics)
    some_K = g_K > LEAST_UNCENSORED
    if not some_K.any():
        return None
    width_K, alive_K = statistics.sums_S[:k] / n, statistics.sums_S[k : 2 * k]
    died_KK = statistics.sums_S[2 * k :].reshape(k, k)
    weight_K = np.divide(1.0, g_K, out=np.zeros_like(g_K), where=some_K)
    brier_K = (died_KK @ weight_K + alive_K * weight_K) / n
    return float((brier_K * width_K)[some_K].sum() / width_K[some_K].sum())
