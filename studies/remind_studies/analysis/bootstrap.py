"""Compute intervals for the difference of two predictions on the same patients, by a paired bootstrap over persons.

A person with several visits is drawn with all of them. AUROC here is that of the scores themselves, not of histograms.
Shapes: N patients (or visits), P persons, C classes, R resamples, K different values of a score.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.metrics.statistics import scored_classes
from remind_studies.analysis.document import Gain

RESAMPLES, CHUNK = 1000, 100
LEAST_PERSONS = 10  # an interval from fewer would be too narrow by far
LEAST_DEFINED = 0.9  # share of the resamples in which a score must exist for it to have an interval
LEVELS = (2.5, 97.5)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Prediction:
    """Log-probabilities (N, C) of patients with the true classes `label_N`."""

    log_p_NC: Floats
    label_N: Integers

    @property
    def correct_N(self) -> Floats:
        """1 where the likeliest class is the true one."""
        correct_N: Floats = (self.log_p_NC.argmax(axis=1) == self.label_N).astype(np.float64)
        return correct_N

    @property
    def loss_N(self) -> Floats:
        """Log loss, −ln p of the true class."""
        loss_N: Floats = -self.log_p_NC[np.arange(len(self.label_N)), self.label_N]
        return loss_N

    def aurocs(self, weight_RN: Floats) -> Floats:
        """Return AUROC with these weights of the patients, (R,): the mean over classes of one against the rest.

        NaN where a class that occurs among the patients, or the rest, has no weight.
        """
        classes = [c for c in scored_classes(self.log_p_NC.shape[1]) if 0 < (self.label_N == c).mean() < 1]
        if not classes:
            return np.full(len(weight_RN), np.nan)
        found = [weighted_auroc(self.log_p_NC[:, c], self.label_N == c, weight_RN) for c in classes]
        mean_R: Floats = np.mean(found, axis=0)
        return mean_R


def gains(full: Prediction, hidden: Prediction, person_N: NDArray[np.str_], seed: int) -> dict[str, Gain | None]:
    """Compare two predictions of the same patients by ``auroc``, ``accuracy`` and ``loss``.

    Parameters
    ----------
    person_N
        The person of each patient (or visit).
    seed
        Seed of the resamples.
    """
    _, place_N = np.unique(person_N, return_inverse=True)
    persons = int(place_N.max()) + 1
    ones_1N = np.ones((1, len(place_N)))
    seen, less = _scores(full, ones_1N), _scores(hidden, ones_1N)
    drawn: dict[str, list[Floats]] = {name: [] for name in seen}
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES // CHUNK if persons >= LEAST_PERSONS else 0):
        weight_RP = rng.multinomial(persons, np.full(persons, 1 / persons), size=CHUNK).astype(np.float64)
        weight_RN = weight_RP[:, place_N]
        of_full, of_hidden = _scores(full, weight_RN), _scores(hidden, weight_RN)
        for name, parts in drawn.items():
            parts.append(_better(name, of_full[name], of_hidden[name]))
    result: dict[str, Gain | None] = {}
    for name in seen:
        value, other = float(seen[name][0]), float(less[name][0])
        low, high = _interval(np.concatenate(drawn[name])) if drawn[name] else (None, None)
        gain = float(_better(name, seen[name], less[name])[0])
        result[name] = None if np.isnan(gain) else Gain(seen=value, hidden=other, gain=gain, low=low, high=high)
    return result


def weighted_auroc(score_N: Floats, positive_N: NDArray[np.bool_], weight_RN: Floats) -> Floats:
    """Return Σ_{i positive, j not} w_i w_j (1[s_i > s_j] + ½·1[s_i = s_j]) / (Σ w_i · Σ w_j), (R,).

    NaN where a sum is 0.
    """
    order_N = np.argsort(score_N, kind="stable")
    first_K = np.unique(score_N[order_N], return_index=True)[1]
    weight_RN, positive_N = weight_RN[:, order_N], positive_N[order_N]
    positive_RK = np.add.reduceat(weight_RN * positive_N, first_K, axis=1)
    rest_RK = np.add.reduceat(weight_RN * ~positive_N, first_K, axis=1)
    below_RK = np.cumsum(rest_RK, axis=1) - rest_RK
    pairs_R = positive_RK.sum(axis=1) * rest_RK.sum(axis=1)
    area_R = (positive_RK * (below_RK + rest_RK / 2)).sum(axis=1)
    auroc_R: Floats = np.divide(area_R, pairs_R, out=np.full(len(pairs_R), np.nan), where=pairs_R > 0)
    return auroc_R


def _scores(prediction: Prediction, weight_RN: Floats) -> dict[str, Floats]:
    total_R = weight_RN.sum(axis=1)
    return {
        "auroc": prediction.aurocs(weight_RN),
        "accuracy": weight_RN @ prediction.correct_N / total_R,
        "loss": weight_RN @ prediction.loss_N / total_R,
    }


def _better(name: str, full_R: Floats, hidden_R: Floats) -> Floats:
    """Return by how much the first is better; a lower loss is better."""
    return hidden_R - full_R if name == "loss" else full_R - hidden_R


def _interval(gain_R: Floats) -> tuple[float, float] | tuple[None, None]:
    defined_R = gain_R[~np.isnan(gain_R)]
    if len(defined_R) < LEAST_DEFINED * len(gain_R):
        return None, None
    low, high = np.percentile(defined_R, LEVELS)
    return float(low), float(high)
