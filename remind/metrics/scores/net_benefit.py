"""Net benefit of treating patients with a probability of .20 or more, the mean over the classes scored."""

import numpy as np
from numpy.typing import NDArray

from remind.metrics import thresholds
from remind.metrics.histograms import bins
from remind.metrics.intervals import Interval
from remind.metrics.score import BY_CLASS, Score, register
from remind.metrics.statistics import GroupStatistics


def _value(statistics: GroupStatistics) -> float:
    at = thresholds.NET_BENEFIT_AT
    return float(np.mean([thresholds.net_benefit(h_2K, above_K, at) for h_2K, above_K in _treated(statistics)]))


def _interval(statistics: GroupStatistics) -> Interval:
    at = thresholds.NET_BENEFIT_AT
    found = [thresholds.net_benefit_interval(h_2K, above_K, at) for h_2K, above_K in _treated(statistics)]
    return float(np.mean([low for low, _ in found])), float(np.mean([high for _, high in found]))


def _treated(statistics: GroupStatistics) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    last = int(bins(np.array([thresholds.NET_BENEFIT_ODDS]))[0])
    return [(histogram_2K, bins_K > last) for bins_K, histogram_2K in statistics.scores.placed()]


register(
    Score(
        "net_benefit",
        "net benefit at .20",
        "benefit",
        "true positives minus weighted false positives, per patient, if everyone with a probability of .20 is treated",
        _value,
        _interval,
        within_one=False,
        outcomes=(*BY_CLASS, "multilabel"),
    )
)
