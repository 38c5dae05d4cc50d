"""Sufficient statistics of a model's predictions per group: what sites report and the coordinator adds up.

Adding the sites' statistics gives those of the pooled patients exactly (design, invariant 4).
Shapes: B patients, C classes, E experts, G groups, H score histograms (1 for two classes, else C), K bins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

BINS = 512  # of a score histogram
LOGIT_RANGE = 10.0  # bins divide this range of log-odds, ± ; scores beyond fall into the outermost bins

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class GroupLoss:
    """What steers λ: patients of one group, and the sum of their losses."""

    count: int
    loss_sum: float

    @property
    def loss(self) -> float:
        """Mean loss per patient, the R_k of whoever is counted."""
        return self.loss_sum / self.count

    def __add__(self, other: "GroupLoss") -> "GroupLoss":
        return GroupLoss(self.count + other.count, self.loss_sum + other.loss_sum)


@dataclass(frozen=True)
class GroupStatistics(GroupLoss):
    """What the page shows of one group.

    Attributes
    ----------
    open_sum
        Sum over patients of the share of blocks in which Φ_k was used; over `count` it is the gate's open rate.
    confusion_CC
        Patients by (true class, predicted class).
    scores_H2K
        Patients by (class scored, is it the true class, bin of the log-odds of that class).
    use_sum_E
        Sum over patients of the mean weight of each expert (`FusionOutput.use_BE`). Empty where there are no experts.
        Added to one of another length it is empty too: of all those patients together nothing is known then.
    """

    open_sum: float
    confusion_CC: Integers
    scores_H2K: Integers
    use_sum_E: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def use_E(self) -> Floats:
        """Mean weight of each expert per patient, the group's row of the expert map; empty without experts."""
        return self.use_sum_E / self.count

    def __add__(self, other: GroupLoss) -> "GroupStatistics":
        if not isinstance(other, GroupStatistics):
            return NotImplemented
        return GroupStatistics(
            self.count + other.count,
            self.loss_sum + other.loss_sum,
            self.open_sum + other.open_sum,
            self.confusion_CC + other.confusion_CC,
            self.scores_H2K + other.scores_H2K,
            self.use_sum_E + other.use_sum_E if len(self.use_sum_E) == len(other.use_sum_E) else np.zeros(0),
        )


Statistics = TypeVar("Statistics", bound=GroupLoss)


def scored_classes(classes: int) -> tuple[int, ...]:
    """Classes whose score is histogrammed: with two, one tells all."""
    return (1,) if classes == 2 else tuple(range(classes))


def collect(
    group_B: Integers,
    label_B: Integers,
    loss_B: Floats,
    log_p_BC: Floats,
    open_B: Floats,
    use_BE: Floats | None = None,
) -> dict[int, GroupStatistics]:
    """Statistics of each group among B patients from their losses, log-probabilities, use of Φ_k and of experts."""
    classes = log_p_BC.shape[1]
    predicted_B = log_p_BC.argmax(axis=1)
    use_BE = np.zeros((len(group_B), 0)) if use_BE is None else use_BE
    bins_BH = np.stack([_bin(log_p_BC[:, c]) for c in scored_classes(classes)], axis=1)
    statistics = {}
    for group in np.unique(group_B).tolist():
        mine = group_B == group
        confusion_CC = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(confusion_CC, (label_B[mine], predicted_B[mine]), 1)
        scores_H2K = np.zeros((bins_BH.shape[1], 2, BINS), dtype=np.int64)
        for h, c in enumerate(scored_classes(classes)):
            np.add.at(scores_H2K[h], ((label_B[mine] == c).astype(np.int64), bins_BH[mine, h]), 1)
        loss_sum, open_sum = float(loss_B[mine].sum()), float(open_B[mine].sum())
        statistics[group] = GroupStatistics(
            int(mine.sum()), loss_sum, open_sum, confusion_CC, scores_H2K, use_BE[mine].sum(axis=0)
        )
    return statistics


def merge(parts: Iterable[Mapping[int, Statistics]]) -> dict[int, Statistics]:
    """Statistics of all patients together from those of disjoint parts; a group may be in some parts only."""
    merged: dict[int, Statistics] = {}
    for part in parts:
        for group, statistics in part.items():
            merged[group] = merged[group] + statistics if group in merged else statistics  # type: ignore[assignment]
    return dict(sorted(merged.items()))


def total(statistics: Mapping[int, GroupStatistics]) -> GroupStatistics | None:
    """All groups together; None for no patients."""
    return reduce(GroupStatistics.__add__, statistics.values()) if statistics else None


def _bin(log_p_B: Floats) -> Integers:
    """Bin of the log-odds ln p − ln(1 − p): fine where rare outcomes' scores crowd, near 0 and 1."""
    tiny = 1e-300
    rest_B = np.maximum(-np.expm1(np.minimum(log_p_B, 0.0)), tiny)
    logit_B = log_p_B - np.log(rest_B)
    position_B = (logit_B + LOGIT_RANGE) / (2 * LOGIT_RANGE) * BINS
    return np.clip(np.floor(position_B), 0, BINS - 1).astype(np.int64)
