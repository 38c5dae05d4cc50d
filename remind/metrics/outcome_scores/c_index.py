"""Harrell's C-index of survival."""

from remind.metrics.score import Score, register
from remind.metrics.statistics import GroupStatistics
from remind.metrics.survival import concordance, concordance_interval


def _value(statistics: GroupStatistics) -> float | None:
    found = concordance(statistics)
    return None if found is None else found[0]


def _bound(statistics: GroupStatistics) -> float | None:
    found = concordance(statistics)
    return None if found is None else found[1]


register(
    Score(
        "c_index",
        "C-index",
        "C",
        "chance that of two patients the one with the earlier event has the higher risk",
        _value,
        concordance_interval,
        _bound,
        two_classes=True,
        outcomes=("survival",),
        guessing=(0.5, 0.6),
    )
)
