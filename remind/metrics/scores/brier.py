"""Brier score."""

from remind.metrics.intervals import mean_interval
from remind.metrics.score import BY_CLASS, Score, register

register(
    Score(
        "brier",
        "Brier score",
        "Brier",
        "mean squared error of the probabilities",
        lambda s: s.brier,
        lambda s: mean_interval(s.brier_sum, s.brier_squares, s.count, most=2.0 if len(s.confusion_CC) > 2 else 1.0),
        lower_is_better=True,
        within_one=False,
        outcomes=(*BY_CLASS, "multilabel"),
    )
)
