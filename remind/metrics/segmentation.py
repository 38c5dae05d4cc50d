"""Scores of masks, from sums over patients that merge exactly.

Each patient has a Dice and an HD95 per region; `OF_REGION` names what is added up of each, and `OF_ALL` what is
added up of the patient's means over the regions. Sums are ordered region by region, those of all regions last.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from remind.metrics.intervals import Interval, mean_interval
from remind.metrics.score import Part, Score, register
from remind.metrics.statistics import Floats, GroupStatistics

OF_REGION = ("dice", "dice2", "hd95", "hd952", "both", "true", "predicted")
OF_ALL = ("dice2", "hd952", "longest")
MOST_REGIONS = 4  # as many have scores of their own


def regions_of(statistics: GroupStatistics) -> int:
    """Return R, the number of regions that the sums are of."""
    return (len(statistics.sums_S) - len(OF_ALL)) // len(OF_REGION)


def of_region(statistics: GroupStatistics, region: int) -> dict[str, float]:
    """Return the sums of a region by name."""
    start = region * len(OF_REGION)
    return dict(zip(OF_REGION, statistics.sums_S[start : start + len(OF_REGION)].tolist(), strict=True))


def of_all(statistics: GroupStatistics) -> dict[str, float]:
    """Return the sums of the patients' means over the regions by name."""
    return dict(zip(OF_ALL, statistics.sums_S[-len(OF_ALL) :].tolist(), strict=True))


def sums(
    dice_BR: Floats, hd95_BR: Floats, both_BR: Floats, true_BR: Floats, predicted_BR: Floats, longest: float
) -> Floats:
    """Return what is added up of each patient, (B, S)."""
    of_regions = np.stack([dice_BR, dice_BR**2, hd95_BR, hd95_BR**2, both_BR, true_BR, predicted_BR], axis=2)
    means = [dice_BR.mean(axis=1) ** 2, hd95_BR.mean(axis=1) ** 2, np.full(len(dice_BR), longest)]
    return np.concatenate([of_regions.reshape(len(dice_BR), -1), np.stack(means, axis=1)], axis=1)


def mean_of(name: str) -> Callable[[GroupStatistics], float]:
    """Return the function that computes the mean of ``dice`` or ``hd95`` over patients and regions."""

    def value(statistics: GroupStatistics) -> float:
        regions = range(regions_of(statistics))
        return sum(of_region(statistics, r)[name] for r in regions) / (len(regions) * statistics.count)

    return value


def mean_interval_of(name: str) -> Callable[[GroupStatistics], Interval]:
    """Return the function that computes Student's interval of that mean; a patient counts once."""

    def interval(statistics: GroupStatistics) -> Interval:
        total, squares = mean_of(name)(statistics) * statistics.count, of_all(statistics)[f"{name}2"]
        return mean_interval(total, squares, statistics.count, _most(statistics, name))

    return interval


def region_mean_of(name: str, region: int) -> Callable[[GroupStatistics], float | None]:
    """Return the function that computes the mean of one region over patients; None if there is no such region."""

    def value(statistics: GroupStatistics) -> float | None:
        return None if region >= regions_of(statistics) else of_region(statistics, region)[name] / statistics.count

    return value


def region_interval_of(name: str, region: int) -> Callable[[GroupStatistics], Interval | None]:
    """Return the function that computes Student's interval of one region's mean."""

    def interval(statistics: GroupStatistics) -> Interval | None:
        if region >= regions_of(statistics):
            return None
        own = of_region(statistics, region)
        return mean_interval(own[name], own[f"{name}2"], statistics.count, _most(statistics, name))

    return interval


def pooled_dice(statistics: GroupStatistics) -> float:
    """Return the mean over regions of the Dice of all patients' voxels together; 1 where nobody has any."""
    found = []
    for region in range(regions_of(statistics)):
        own = of_region(statistics, region)
        volume = own["true"] + own["predicted"]
        found.append(2 * own["both"] / volume if volume else 1.0)
    return float(np.mean(found))


def _most(statistics: GroupStatistics, name: str) -> float:
    """Return the largest value of one patient: 1, or the diagonal of a volume."""
    return 1.0 if name == "dice" else of_all(statistics)["longest"] / statistics.count


WORDS = {"dice": ("Dice", "Dice"), "hd95": ("HD95", "HD95")}
MEANING = {
    "dice": "share of voxels on which predicted and true region agree, 2·|both| / (|true| + |predicted|)",
    "hd95": "distance within which 95 % of the border lies, in mm; the volume's diagonal if a region is not found",
}


def register_mean(name: str) -> None:
    """Register the mean of ``dice`` or ``hd95`` over the regions."""
    title, column = WORDS[name]
    meaning = "mean over regions: " + MEANING[name]
    register(_score(name, name, (title, column, meaning), mean_of(name), mean_interval_of(name)))


def register_regions(name: str) -> None:
    """Register the mean of ``dice`` or ``hd95`` of each region that there can be."""
    for region in range(MOST_REGIONS):
        register(_of_region(name, region, str(region + 1)))


def _of_region(name: str, region: int, called: str) -> Score:
    """Return the score of a region, with the region's name in its words."""
    title, column = WORDS[name]
    words = (f"{title} of region {called}", f"{column} {called}", f"of region {called}: {MEANING[name]}")
    value, interval = region_mean_of(name, region), region_interval_of(name, region)
    part = Part(region, partial(_of_region, name, region))
    return _score(f"{name}_{region + 1}", name, words, value, interval, part)


def _score(
    name: str,
    of: str,
    words: tuple[str, str, str],
    value: Callable[[GroupStatistics], float | None],
    interval: Callable[[GroupStatistics], Interval | None],
    part: Part | None = None,
) -> Score:
    return Score(
        name,
        *words,
        value,
        interval,
        lower_is_better=of == "hd95",
        within_one=of == "dice",
        outcomes=("segmentation",),
        part=part,
    )
