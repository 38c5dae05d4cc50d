"""Curves of a threshold that moves over a score histogram: ROC, precision and recall, sensitivity and specificity.

The histogram's bins are joined to ranges, so that a curve has a bounded number of points and, where counts must be
large, no range is small. Every curve is a function of the ranges' counts alone. Shapes: K bins, R ranges, both
ascending; row 0 the rest, row 1 the class scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.metrics.histograms import BINS, bins, edges

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Placed = tuple[Integers, Integers]


@dataclass(frozen=True)
class Point:
    """Rates at a threshold, with every patient at or above it called positive; a share is null if undefined.

    Attributes
    ----------
    log_odds
        The threshold.
    sensitivity, specificity, precision
        Share of the class that is called positive, of the rest that is not, and of the class among those called.
    called
        Share of all patients that is called positive.
    """

    log_odds: float
    sensitivity: float
    specificity: float
    precision: float | None
    called: float


def begins(placed: Placed, most: int, least: int = 1, cut: float | None = None) -> list[int]:
    """Return the first bin of each of at most `most` ranges, each with `least` patients of the class and of the rest.

    The first range begins at bin 0. One range begins at the log-odds `cut`, where both sides allow it, so that what a
    decision at that threshold achieves can be read off. With `least` up to 1 a range may lack either class.
    """
    bins_K, counts_2K = placed
    if cut is not None:
        at = int(np.searchsorted(bins_K, begin := bin_from(cut)))
        sides = [(bins_K[:at], counts_2K[:, :at]), (bins_K[at:], counts_2K[:, at:])]
        if all(_is_enough(side[1].sum(axis=1), least) for side in sides):
            below, above = (begins(side, max(1, most // 2), least) for side in sides)
            return [*below, begin, *above[1:]]
    wanted = counts_2K.sum() / most
    found, seen_2 = [0], np.zeros(2, dtype=np.int64)
    for k in range(len(bins_K)):
        if k and _is_enough(seen_2, least) and seen_2.sum() >= wanted and _is_enough(counts_2K[:, k:].sum(1), least):
            found.append(int(bins_K[k]))
            seen_2 = np.zeros(2, dtype=np.int64)
        seen_2 = seen_2 + counts_2K[:, k]
    return found


def bin_from(cut: float) -> int:
    """Return the bin whose lower end is nearest to a log-odds: those from it on count as at or above the threshold."""
    place = int(bins(np.array([cut]))[0])
    low, high = (float(end[0]) for end in edges(np.array([place])))
    return place if cut - low <= high - cut else place + 1


def counted(placed: Placed, starts: Sequence[int]) -> Integers:
    """Return the patients in ranges that begin at these bins, (2, R)."""
    bins_K, counts_2K = placed
    place_K = np.searchsorted(starts, bins_K, side="right") - 1
    return np.stack([np.bincount(place_K, row_K, len(starts)) for row_K in counts_2K]).astype(np.int64)


def lower_ends(starts: Sequence[int]) -> Floats:
    """Return the log-odds at which ranges begin, (R,); −inf for the first."""
    low_R: Floats = edges(np.clip(np.asarray(starts, dtype=np.int64), 0, BINS - 1))[0]
    low_R[0] = -np.inf
    return low_R


def points(counts_2R: Integers, low_R: Floats) -> list[Point]:
    """Return what a threshold at the lower end of each range achieves, and one above all of them, descending from it.

    Undefined, and so empty, unless there are patients of the class and of the rest.
    """
    rest, own = (int(n) for n in counts_2R.sum(axis=1))
    if not rest or not own:
        return []
    found = [Point(np.inf, 0.0, 1.0, None, 0.0)]
    false_R, true_R = np.cumsum(counts_2R[:, ::-1], axis=1).tolist()
    for false, true, low in zip(false_R, true_R, low_R[::-1].tolist(), strict=True):
        called = true + false
        found.append(Point(low, true / own, 1 - false / rest, true / called if called else None, called / (own + rest)))
    return found


def _is_enough(counts_2: Integers, least: int) -> bool:
    return bool(counts_2.sum() > 0) if least <= 1 else bool((counts_2 >= least).all())
