"""Integrated Brier score of survival."""

from remind.metrics.score import Score, register
from remind.metrics.survival import integrated_brier

register(
    Score(
        "integrated_brier",
        "integrated Brier score",
        "IBS",
        "mean squared error of the predicted survival over the time, weighted for censoring",
        integrated_brier,
        lower_is_better=True,
        outcomes=("survival",),
    )
)
