"""Statistics of patients as parts of messages; each refuses numbers that no patients can have.

Shapes: C classes, E experts.
"""

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from remind.federation.message_types import MOST, MOST_EXPERTS, Count, Finite, Message, Name, Natural, Share
from remind.metrics.histograms import BINS, GRID, ScoreHistograms
from remind.metrics.statistics import MOST_LOG_LOSS, GroupLoss, GroupStatistics, scored_classes
from remind.metrics.tempering import BETA_K, TemperedSums
from remind.outcomes.base import outcomes

USE_DIGITS = 4  # decimals of a use sum: a map needs no more, and every digit reveals something about patients
MOST_SUMS = 2**16  # of an outcome; far more than any has
MOST_CLASSES_LOG = 20.0  # ln of the number of classes, and far more


Signed = Annotated[float, Field(ge=-MOST, le=MOST)]


class LossSum(Message):
    """`GroupLoss` on the wire."""

    count: Count
    loss_sum: Finite
    variance: Annotated[float, Field(ge=0, le=MOST**2)] = 0.0

    @classmethod
    def of(cls, loss: GroupLoss) -> Self:
        """Return the message of the statistics."""
        return cls(count=loss.count, loss_sum=loss.loss_sum, variance=loss.variance)

    def value(self) -> GroupLoss:
        """Return the statistics."""
        return GroupLoss(self.count, self.loss_sum, variance=self.variance)


class Evaluation(Message):
    """`GroupStatistics` as a message; use sums are rounded.

    `bins` is the version of the score histograms' bins (`histograms.GRID`). Histograms of another version cannot be
    added. What holds for one outcome alone is checked where it is known (`Outcome.problem`).
    """

    count: Count
    loss_sum: Finite
    log_loss_sum: Finite
    log_loss_squares: Finite
    brier_sum: Finite
    brier_squares: Finite
    open_sum: Finite
    confusion: list[list[Natural]]
    bins: Literal[2]
    scores: list[tuple[Natural, Natural, Natural, Count]]
    use_sum: Annotated[list[Finite], Field(max_length=MOST_EXPERTS)] = Field(default_factory=list)
    outcome: Name = "classes"
    sums: Annotated[list[Signed], Field(max_length=MOST_SUMS)] = Field(default_factory=list)

    @classmethod
    def of(cls, statistics: GroupStatistics) -> Self:
        """Return the message of the statistics."""
        return cls(
            count=statistics.count,
            loss_sum=statistics.loss_sum,
            log_loss_sum=statistics.log_loss_sum,
            log_loss_squares=statistics.log_loss_squares,
            brier_sum=statistics.brier_sum,
            brier_squares=statistics.brier_squares,
            bins=GRID,
            open_sum=statistics.open_sum,
            confusion=statistics.confusion_CC.tolist(),
            scores=statistics.scores.cells(),
            use_sum=statistics.use_sum_E.round(USE_DIGITS).tolist(),
            outcome=statistics.outcome,
            sums=statistics.sums_S.tolist(),
        )

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        classes = len(self.confusion)
        if (outcome := outcomes().get(self.outcome)) is None:
            raise ValueError("outcome is not known here")
        patients = self.count if outcome.by_class else 0
        if any(len(row) != classes for row in self.confusion) or sum(map(sum, self.confusion)) != patients:
            raise ValueError("confusion is not square or does not add up to count")
        if self.open_sum > self.count:
            raise ValueError("open_sum is more than count")
        for name, most in (("log_loss", math.inf), ("brier", 2.0 if classes > 2 else 1.0)):
            _sums_fit(name, self.count, getattr(self, f"{name}_sum"), getattr(self, f"{name}_squares"), most)
        rounding = 0.02 * self.count + len(self.use_sum) * 10.0**-USE_DIGITS  # the weights may be of bfloat16
        if sum(self.use_sum) > self.count + rounding:
            raise ValueError("use_sum adds up to more than count")
        if not outcome.by_class:  # `Outcome.problem` knows more
            if any(hit > 1 or k >= BINS for _, hit, k, _ in self.scores):
                raise ValueError("a score bin does not exist")
            return self
        of_class = [sum(self.confusion[c]) for c in scored_classes(classes)]
        found = [[0, 0] for _ in of_class]
        for h, hit, k, number in self.scores:
            if h >= len(found) or hit > 1 or k >= BINS:
                raise ValueError(f"score bin ({h}, {hit}, {k}) does not exist")
            found[h][hit] += number
        if found != [[self.count - number, number] for number in of_class]:
            raise ValueError("a score histogram does not add up to the patients of its class and the rest")
        return self

    def value(self) -> GroupStatistics:
        """Return the statistics."""
        confusion_CC = np.array(self.confusion, dtype=np.int64).reshape(len(self.confusion), len(self.confusion))
        scores = ScoreHistograms.of(self.scores)
        use_sum_E = np.array(self.use_sum, dtype=np.float64)
        return GroupStatistics(
            count=self.count,
            loss_sum=self.loss_sum,
            log_loss_sum=self.log_loss_sum,
            log_loss_squares=self.log_loss_squares,
            brier_sum=self.brier_sum,
            brier_squares=self.brier_squares,
            open_sum=self.open_sum,
            confusion_CC=confusion_CC,
            scores=scores,
            use_sum_E=use_sum_E,
            outcome=self.outcome,
            sums_S=np.array(self.sums, dtype=np.float64),
        )


Sums = Annotated[tuple[Finite, ...], Field(min_length=len(BETA_K), max_length=len(BETA_K))]
Slopes = Annotated[tuple[Signed, ...], Field(min_length=len(BETA_K), max_length=len(BETA_K))]


class Tempered(Message):
    """`TemperedSums` on the wire."""

    count: Count
    loss: Sums
    slope: Slopes

    @classmethod
    def of(cls, sums: TemperedSums) -> Self:
        """Return the message of the sums; rounding may make a loss negative by less than any patient's."""
        return cls(count=sums.count, loss=tuple(sums.loss_K.clip(min=0).tolist()), slope=tuple(sums.slope_K.tolist()))

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        losses = zip(self.loss, BETA_K.tolist(), strict=True)
        if any(loss > self.count * (MOST_LOG_LOSS * beta + MOST_CLASSES_LOG) for loss, beta in losses):
            raise ValueError("loss is more than that of so many patients can be")
        if any(abs(slope) > self.count * MOST_LOG_LOSS for slope in self.slope):
            raise ValueError("slope is more than that of so many patients can be")
        return self

    def value(self) -> TemperedSums:
        """Return the sums."""
        return TemperedSums(self.count, np.array(self.loss), np.array(self.slope))


def _sums_fit(name: str, count: int, total: float, squares: float, most: float) -> None:
    """Refuse a sum and a sum of squares that no `count` values of 0 … `most` have."""
    slack = 1 + 1e-9
    if total > most * count * slack:
        raise ValueError(f"{name}_sum is more than {most:g} for each of count")
    if not total**2 / count <= squares * slack + 1e-12 or squares > min(most, total) * total * slack + 1e-12:
        raise ValueError(f"{name}_squares is no sum of squares of what adds up to {name}_sum")


class PrivacySpent(Message):
    """What a site's patients have spent of their privacy in this run, where its policy tells it.

    Attributes
    ----------
    epsilon, delta
        Of all releases together.
    left
        ε that this run may still spend there.
    own
        ε if all other hospitals leave out the noise that they share with this one; None: all noise is its own.
    releases
        Kind of release, such as ``training gradient`` → ε of these alone.
    """

    epsilon: Finite
    delta: Share
    left: Finite
    own: Finite | None = None
    releases: Annotated[dict[Name, Finite], Field(max_length=10)]
