"""Estimate what a test would change, from patients who had it: the mathematics of docs/next-test.md.

A reference patient has had the test. The model's class probabilities without the test and with it form a pair. For a
patient without the test, the estimate takes the pairs whose probabilities without the test are nearest to the
patient's. Each pair gives a step in log-odds, from without to with, and each step is applied to the patient's own
probabilities.

Letters: N patients, R reference patients, K neighbours, C classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from remind.metrics.intervals import wilson

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
LOWEST = 1e-15  # lower probabilities are raised to this value
SAME = 0.05  # probabilities closer than this are always near enough; with two classes, 0.07 in log-odds
STRANGER = 0.99  # quantile of the reference patients' distances to their nearest; a patient beyond it is unlike them
CHUNK = 1 << 21  # numbers in memory at the same time


@dataclass(frozen=True, eq=False)
class Pairs:
    """Reference patients, with and without the test.

    Attributes
    ----------
    without_RC, with_RC
        Class probabilities of the model.
    label_R
        The class of each patient; −1 if unknown.
    """

    without_RC: Floats
    with_RC: Floats
    label_R: Integers

    def __len__(self) -> int:
        return len(self.label_R)


@dataclass(frozen=True, eq=False)
class Expected:
    """Estimates, one entry per patient. (N, 3) holds a mean and its 95 % interval, NaN where `near_N` is false.

    Attributes
    ----------
    near_N
        Whether enough reference patients are like this patient. If false, there is no estimate.
    n
        K, the number of reference patients behind each estimate.
    change_N3
        Change of the probabilities: half of the sum of |p′_c − p_c| over classes; with two classes |p′ − p|.
    flips_N3
        Probability that the decision changes.
    gain_N3
        Expected gain in log-loss under the model's probabilities with the test, in nats: Σ p′_c ln(p′_c/p_c) ≥ 0.
    measured_N3
        Gain in log-loss of the neighbours under their labels: ln p′_y − ln p_y. Negative if the test misled the model.
    """

    near_N: NDArray[np.bool_]
    n: int
    change_N3: Floats
    flips_N3: Floats
    gain_N3: Floats
    measured_N3: Floats


def expect(
    pairs: Pairs, p_NC: Floats, decided_N: Integers, decide: Callable[[Floats], Integers], least: int
) -> Expected:
    """Estimate what the test would change for each patient.

    Parameters
    ----------
    pairs
        R ≥ max(least, 2) reference patients.
    p_NC
        The patients' probabilities without the test.
    decided_N
        Their decisions without the test.
    decide
        Probabilities with the test (B, C) → decisions (B,).
    least
        Minimum number of neighbours.
    """
    number = neighbours(len(pairs), least)
    near_N, nearest_NK = _nearest(pairs, p_NC, number)
    means = {name: np.full((len(p_NC), 3), np.nan) for name in ("change", "flips", "gain", "measured")}
    shares = np.array([(c / number, *wilson(c / number, number)) for c in range(number + 1)])
    step_RC = _odds(pairs.with_RC) - _odds(pairs.without_RC)
    known_R = pairs.label_R >= 0
    gain_R = np.full(len(pairs), np.nan)
    rows, label = np.flatnonzero(known_R), pairs.label_R[known_R]
    gain_R[rows] = _log(pairs.with_RC[rows, label]) - _log(pairs.without_RC[rows, label])
    size = max(1, CHUNK // (number * p_NC.shape[1]))
    served = np.flatnonzero(near_N)
    for part in np.split(served, range(size, len(served), size)):
        nearest_BK, p_BC = nearest_NK[part], p_NC[part]
        odds_BKC = _odds(p_BC)[:, None] + step_RC[nearest_BK]
        later_BKC = np.exp(odds_BKC - np.logaddexp.reduce(odds_BKC, axis=2, keepdims=True))
        means["change"][part] = _mean(np.abs(later_BKC - p_BC[:, None]).sum(axis=2) / 2, 1.0)
        decided_BK = decide(later_BKC.reshape(-1, p_NC.shape[1])).reshape(nearest_BK.shape)
        means["flips"][part] = shares[(decided_BK != decided_N[part, None]).sum(axis=1)]
        gain_BK = (later_BKC * (_log(later_BKC) - _log(p_BC)[:, None])).sum(axis=2)
        means["gain"][part] = _mean(np.maximum(gain_BK, 0.0), np.inf)
        means["measured"][part] = _mean(gain_R[nearest_BK], np.inf, -np.inf)
    return Expected(near_N, number, *(means[name] for name in ("change", "flips", "gain", "measured")))


def neighbours(reference: int, least: int) -> int:
    """Return K = R^(4/5), at least `least`. At this rate bias and variance of a mean of neighbours shrink equally."""
    return min(reference, max(least, round(math.pow(reference, 0.8))))


def _nearest(pairs: Pairs, p_NC: Floats, number: int) -> tuple[NDArray[np.bool_], Integers]:
    """Return which patients are like the reference patients, (N,), and the positions of their neighbours, (N, K)."""
    from scipy.spatial import cKDTree

    tree = cKDTree(_odds(pairs.without_RC))
    gap_R = tree.query(tree.data, k=2)[0][:, 1]
    limit = max(float(np.quantile(gap_R, STRANGER)), SAME)
    distance_NK, nearest_NK = tree.query(_odds(p_NC), k=np.arange(1, number + 1))
    return distance_NK[:, 0] <= limit, nearest_NK.astype(np.int64)


def _odds(p_XC: Floats) -> Floats:
    """Return ln p minus its mean over classes. With two classes, a distance is that of log-odds divided by √2."""
    log_p_XC = _log(p_XC)
    return np.asarray(log_p_XC - log_p_XC.mean(axis=-1, keepdims=True))


def _log(p: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(p, LOWEST)))


def _mean(value_BK: Floats, most: float, least: float = 0.0) -> Floats:
    """Return the mean and Student's 95 % interval, (B, 3). NaN is ignored; fewer than 2 values give NaN."""
    known_BK = np.isfinite(value_BK)
    n_B = known_BK.sum(axis=1)
    value_BK = np.where(known_BK, value_BK, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_B = np.where(n_B > 1, value_BK.sum(axis=1) / n_B, np.nan)
        square_B = (known_BK * (value_BK - mean_B[:, None]) ** 2).sum(axis=1)
        half_B = stdtrit(np.maximum(n_B - 1, 1), 0.975) * np.sqrt(square_B / (n_B - 1) / n_B)
    low_B, high_B = np.maximum(mean_B - half_B, least), np.minimum(mean_B + half_B, most)
    return np.stack([mean_B, np.minimum(low_B, mean_B), np.maximum(high_B, mean_B)], axis=1)
