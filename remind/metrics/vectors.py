"""Statistics as vectors of one length, so that they can be summed number by number (secure aggregation).

Shapes: C classes, E experts, N numbers.
"""

import numpy as np
from numpy.typing import NDArray

from remind.metrics.histograms import BINS, ScoreHistograms
from remind.metrics.statistics import GroupStatistics, scored_classes
from remind.metrics.tempering import BETA_K, TemperedSums

Floats = NDArray[np.float64]
_SUMS = ("loss_sum", "log_loss_sum", "log_loss_squares", "brier_sum", "brier_squares", "open_sum")
TEMPERED = 1 + 2 * len(BETA_K)  # numbers of `TemperedSums`


def statistics_length(classes: int, experts: int) -> int:
    """Return how many numbers one group's statistics have."""
    return 1 + len(_SUMS) + classes**2 + experts + 2 * BINS * len(scored_classes(classes))


def of_statistics(found: GroupStatistics | None, classes: int, experts: int) -> Floats:
    """Return the vector (N,) of a group's statistics; zeros where there are none."""
    if found is None:
        return np.zeros(statistics_length(classes, experts))
    scores_N = np.zeros(2 * BINS * len(scored_classes(classes)))
    scores_N[found.scores.code_F] = found.scores.count_F
    use_E = found.use_sum_E if len(found.use_sum_E) == experts else np.zeros(experts)
    sums = [found.count, *(getattr(found, name) for name in _SUMS)]
    return np.concatenate([np.array(sums), found.confusion_CC.ravel(), use_E, scores_N])


def to_statistics(vector_N: Floats, classes: int, experts: int) -> GroupStatistics | None:
    """Return the statistics of a sum of such vectors; None if there is no patient in it."""
    head = 1 + len(_SUMS)
    if (count := round(vector_N[0])) <= 0:
        return None
    confusion_N, use_E, scores_N = np.split(vector_N[head:], [classes**2, classes**2 + experts])
    filled_F = np.flatnonzero(np.rint(scores_N))
    loss, log_loss, log_squares, brier, brier_squares, opened = vector_N[1:head].clip(min=0.0).tolist()
    return GroupStatistics(
        count=count,
        loss_sum=loss,
        log_loss_sum=log_loss,
        log_loss_squares=log_squares,
        brier_sum=brier,
        brier_squares=brier_squares,
        open_sum=opened,
        confusion_CC=np.rint(confusion_N).astype(np.int64).reshape(classes, classes),
        scores=ScoreHistograms(filled_F, np.rint(scores_N[filled_F]).astype(np.int64)),
        use_sum_E=use_E.clip(min=0.0),
    )


def of_tempered(found: TemperedSums | None) -> Floats:
    """Return the vector (`TEMPERED`,) of a group's sums; zeros where there are none."""
    return np.zeros(TEMPERED) if found is None else np.concatenate([[found.count], found.loss_K, found.slope_K])


def to_tempered(vector_N: Floats) -> TemperedSums | None:
    """Return the sums of a sum of such vectors; None if there is no patient in it."""
    count, (loss_K, slope_K) = round(vector_N[0]), np.split(vector_N[1:], 2)
    return TemperedSums(count, loss_K.clip(min=0.0), slope_K) if count > 0 else None
