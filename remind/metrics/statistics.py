"""Sufficient statistics of a model's predictions per group. Sites report them and the coordinator adds them.

The sum of the sites' statistics equals those of the pooled patients exactly (design, invariant 4).
Shapes: B patients, C classes, E experts, G groups.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from remind.metrics.histograms import ScoreHistograms, histograms

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_LOG_LOSS = 100.0  # per patient, in nats: p = 4e-44, the end of float32; so every patient's loss is bounded


@dataclass(frozen=True)
class GroupLoss:
    """The statistics that update λ: patients of one group, and the sum of their losses.

    Attributes
    ----------
    variance
        Of `loss_sum`, where it is estimated from a sample of the patients; 0: it is of all of them.
    """

    count: int
    loss_sum: float
    variance: float = field(default=0.0, kw_only=True)

    @property
    def loss(self) -> float:
        """Return the mean loss per patient: R_k of the patients counted here."""
        return self.loss_sum / self.count

    @property
    def error(self) -> float:
        """Return the standard error of `loss` owing to the sample; 0: all patients were measured."""
        return math.sqrt(self.variance) / self.count

    def __add__(self, other: "GroupLoss") -> "GroupLoss":
        variance = self.variance + other.variance  # sites draw independently
        return GroupLoss(self.count + other.count, self.loss_sum + other.loss_sum, variance=variance)


@dataclass(frozen=True)
class GroupStatistics(GroupLoss):
    """The statistics of one group that the page shows.

    `loss` is the objective's own loss, which updates λ. Only `log_loss` is comparable between objectives.

    Attributes
    ----------
    log_loss_sum
        Sum of −ln p of the true class, of the model's unmodified output.
    log_loss_squares
        Sum of the squares of these, which gives the interval of their mean.
    brier_sum, brier_squares
        Sum over patients of the Brier score Σ_c (p_c − y_c)², half of that with two classes; and of its square.
    open_sum
        Sum over patients of the share of blocks in which Φ_k was used; over `count` it is the gate's open rate.
    confusion_CC
        Patients by (true class, predicted class).
    scores
        Patients by (class scored, is it the true class, bin of the log-odds of that class).
    use_sum_E
        Sum over patients of the mean weight of each expert (`FusionOutput.use_BE`). Empty if there are no experts.
        The sum of two that differ in length is empty too, because it is unknown for all patients together.
    outcome
        What the statistics are of (`remind.outcomes`). Without classes, `confusion_CC` is empty, and log-loss is the
        outcome's own −ln likelihood, perhaps without a constant.
    sums_S
        Further sums over patients, as the outcome defines them.
    """

    log_loss_sum: float
    log_loss_squares: float
    brier_sum: float
    brier_squares: float
    open_sum: float
    confusion_CC: Integers
    scores: ScoreHistograms
    use_sum_E: Floats = field(default_factory=lambda: np.zeros(0))
    outcome: str = "classes"
    sums_S: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def log_loss(self) -> float:
        """Return the mean over patients of −ln p of the true class."""
        return self.log_loss_sum / self.count

    @property
    def brier(self) -> float:
        """Return the mean over patients of the Brier score."""
        return self.brier_sum / self.count

    @property
    def use_E(self) -> Floats:
        """Return the mean weight of each expert per patient, the group's row of the expert map.

        Empty without experts.
        """
        return self.use_sum_E / self.count

    def __add__(self, other: GroupLoss) -> "GroupStatistics":
        if not isinstance(other, GroupStatistics):
            return NotImplemented
        return GroupStatistics(
            self.count + other.count,
            self.loss_sum + other.loss_sum,
            self.log_loss_sum + other.log_loss_sum,
            self.log_loss_squares + other.log_loss_squares,
            self.brier_sum + other.brier_sum,
            self.brier_squares + other.brier_squares,
            self.open_sum + other.open_sum,
            self.confusion_CC + other.confusion_CC,
            self.scores + other.scores,
            self.use_sum_E + other.use_sum_E if len(self.use_sum_E) == len(other.use_sum_E) else np.zeros(0),
            self.outcome,
            self.sums_S + other.sums_S,
        )


Statistics = TypeVar("Statistics", bound=GroupLoss)


def scored_classes(classes: int) -> tuple[int, ...]:
    """Return the classes whose score is put into histograms; with two classes, one of them is enough."""
    return (1,) if classes == 2 else tuple(range(classes))


def collect(
    group_B: Integers,
    label_B: Integers,
    loss_B: Floats,
    log_p_BC: Floats,
    open_B: Floats,
    use_BE: Floats | None = None,
    *,
    outcome: str = "classes",
) -> dict[int, GroupStatistics]:
    """Compute the statistics of each group among B patients, from the objective's losses and the model's outputs.

    `outcome` is one whose patients have one of C classes each.
    """
    classes = log_p_BC.shape[1]
    predicted_B = log_p_BC.argmax(axis=1)
    use_BE = np.zeros((len(group_B), 0)) if use_BE is None else use_BE
    log_loss_B = -np.clip(log_p_BC[np.arange(len(label_B)), label_B], -MOST_LOG_LOSS, 0.0)  # p may round to more than 1
    brier_B = brier(log_p_BC, label_B)
    statistics = {}
    for group in np.unique(group_B).tolist():
        mine = group_B == group
        confusion_CC = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(confusion_CC, (label_B[mine], predicted_B[mine]), 1)
        scores = histograms(log_p_BC[mine], label_B[mine], scored_classes(classes))
        statistics[group] = GroupStatistics(
            count=int(mine.sum()),
            loss_sum=float(loss_B[mine].sum()),
            log_loss_sum=float(log_loss_B[mine].sum()),
            log_loss_squares=float((log_loss_B[mine] ** 2).sum()),
            brier_sum=float(brier_B[mine].sum()),
            brier_squares=float((brier_B[mine] ** 2).sum()),
            open_sum=float(open_B[mine].sum()),
            confusion_CC=confusion_CC,
            scores=scores,
            use_sum_E=use_BE[mine].sum(axis=0),
            outcome=outcome,
        )
    return statistics


def brier(log_p_BC: Floats, label_B: Integers) -> Floats:
    """Return the Brier score of each patient, (B,): Σ_c (p_c − y_c)², and with two classes (p − y)²; 0 … 2 and 0 … 1.

    As scikit-learn's `brier_score_loss`.
    """
    p_BC = np.exp(np.minimum(log_p_BC, 0.0))
    square_BC = (p_BC - (np.arange(p_BC.shape[1]) == label_B[:, None])) ** 2
    whole_B: Floats = square_BC.sum(axis=1) / (2 if p_BC.shape[1] == 2 else 1)
    return whole_B


def merge(parts: Iterable[Mapping[int, Statistics]]) -> dict[int, Statistics]:
    """Merge the statistics of disjoint parts to those of all patients; a group may be missing in some parts."""
    merged: dict[int, Statistics] = {}
    for part in parts:
        for group, statistics in part.items():
            merged[group] = merged[group] + statistics if group in merged else statistics  # type: ignore[assignment]
    return dict(sorted(merged.items()))


def total(statistics: Mapping[int, GroupStatistics]) -> GroupStatistics | None:
    """Merge all groups; None if there are no patients."""
    return reduce(GroupStatistics.__add__, statistics.values()) if statistics else None
