"""The expected score of the worst group if all groups were equal: the minimum of noisy scores is biased downward.

Every ranked group or site of a seed is simulated with its own numbers of patients, from one model with the score of all
patients together: AUROC from two normal distributions at the distance √2·Φ⁻¹(AUROC), and accuracy as a share of correct
answers. The result is the mean of the worst score over draws and seeds.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from remind.metrics.aggregates import Examined, Scope, by_class
from remind.metrics.scores import scores
from remind.metrics.statistics import GroupStatistics

DRAWS = 200
MOST = 0.999  # higher scores would need an infinite distance
Floats = NDArray[np.float64]


def worst_by_chance(models: Mapping[int, Examined], scope: Scope) -> dict[tuple[str, str], float]:
    """Return by measure and metric the expected worst of ranked groups and sites, mean over the seeds.

    A seed in which a score is not defined is left out. AUROC: of two classes only.

    Parameters
    ----------
    models
        By seed.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for seed, model in sorted(models.items()):
        rng = np.random.default_rng([seed, DRAWS])
        for measure, rows, ranked in (
            ("worst_group", model.by_group, scope.ranked_groups),
            ("worst_site", model.by_site, scope.ranked_sites),
        ):
            for metric in DRAWN:
                value = expected_worst([one for key, one in rows.items() if key in ranked(metric)], metric, rng)
                if value is not None:
                    found.setdefault((measure, metric), []).append(value)
    return {key: fmean(values) for key, values in found.items()}


def expected_worst(rows: Sequence[GroupStatistics], metric: str, rng: np.random.Generator) -> float | None:
    """Return the expected worst score of ranked groups, or sites, if each had the score of all their patients.

    None for metrics that are not drawn, and where there are no rows or the score is undefined.
    """
    if metric not in DRAWN or not rows:
        return None
    together = scores(reduce(GroupStatistics.__add__, rows))
    return DRAWN[metric](getattr(together, metric), [by_class(one) for one in rows], rng)


def expected_worst_auroc(
    auroc: float | None, sizes: Sequence[Sequence[int]], rng: np.random.Generator, draws: int = DRAWS
) -> float | None:
    """Return the mean of the smallest AUROC of groups with these numbers of patients (without, with the outcome).

    Groups without one of the two have none; None where no group has one, and for more than two classes.
    """
    from scipy.special import ndtri  # scipy takes long to import, and most programs need no chance

    sizes = [size for size in sizes if len(size) == 2 and min(size) > 0]
    if auroc is None or not sizes:
        return None
    distance = np.sqrt(2) * float(ndtri(np.clip(auroc, 1 - MOST, MOST)))
    return float(np.min([_aurocs(distance, size, rng, draws) for size in sizes], axis=0).mean())


def expected_worst_accuracy(
    accuracy: float | None, sizes: Sequence[Sequence[int]], rng: np.random.Generator, draws: int = DRAWS
) -> float | None:
    """Return the mean of the smallest share of correct answers of groups with these numbers of patients by class."""
    patients = [sum(size) for size in sizes if sum(size)]
    if accuracy is None or not patients:
        return None
    return float(np.min([rng.binomial(n, accuracy, draws) / n for n in patients], axis=0).mean())


def _aurocs(distance: float, size: Sequence[int], rng: np.random.Generator, draws: int) -> Floats:
    """Return the AUROC of each draw, by the rank sum of those with the outcome."""
    negatives, positives = size
    below = rng.normal(size=(draws, negatives))
    above = rng.normal(loc=distance, size=(draws, positives))
    order = np.concatenate([above, below], axis=1).argsort(axis=1)  # no ties: the draws are continuous
    rank_sum = (order < positives) @ np.arange(1, negatives + positives + 1)
    return np.asarray((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


DRAWN = {"auroc": expected_worst_auroc, "accuracy": expected_worst_accuracy}
