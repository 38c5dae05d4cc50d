"""Uno's C-index of survival, whose pairs are weighted for censoring."""

from remind.metrics.score import Score, register
from remind.metrics.statistics import GroupStatistics
from remind.metrics.survival import concordance, concordance_interval


def _value(statistics: GroupStatistics) -> float | None:
    found = concordance(statistics, weighted=True)
    return None if found is None else found[0]


def _bound(statistics: GroupStatistics) -> float | None:
    found = concordance(statistics, weighted=True)
    return None if found is None else found[1]


register(
    Score(
        "c_ipcw",
        "C-index weighted for censoring",
        "C IPCW",
        "the C-index as it would be if nobody were censored for other reasons than chance",
        _value,
        lambda s: concordance_interval(s, weighted=True),
        _bound,
        two_classes=True,
        outcomes=("survival",),
    )
)
