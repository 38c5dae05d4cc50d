"""Scores of one class against the rest, from its score histogram, and their mean over the classes scored."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from remind.metrics.statistics import GroupStatistics

Bounded = tuple[float, float]
OfClass = Callable[[NDArray[np.int64]], Bounded | None]


def mean(statistics: GroupStatistics, score: OfClass) -> Bounded | None:
    """Return a score of class 1, or beyond two classes its mean over all, and its bound; None if no class has one.

    Parameters
    ----------
    score
        Score and bound of a class from its histogram (2, K), row 0 the rest and row 1 the class; None if undefined.
    """
    found = [one for histogram_2K in statistics.scores.each() if (one := score(histogram_2K)) is not None]
    return (float(np.mean([v for v, _ in found])), float(np.mean([b for _, b in found]))) if found else None


def value(score: OfClass) -> Callable[[GroupStatistics], float | None]:
    """Return the function that computes the mean of a score."""
    return _part(score, 0)


def bound(score: OfClass) -> Callable[[GroupStatistics], float | None]:
    """Return the function that computes the bound of that mean."""
    return _part(score, 1)


def _part(score: OfClass, part: int) -> Callable[[GroupStatistics], float | None]:
    def one(statistics: GroupStatistics) -> float | None:
        found = mean(statistics, score)
        return None if found is None else found[part]

    return one
