"""Balanced accuracy."""

from remind.metrics.formulas import balanced_accuracy
from remind.metrics.intervals import balanced_accuracy_interval
from remind.metrics.score import Score, register

register(
    Score(
        "balanced_accuracy",
        "balanced accuracy",
        "bal",
        "mean over classes of the share that is recognised",
        lambda s: balanced_accuracy(s.confusion_CC),
        lambda s: balanced_accuracy_interval(s.confusion_CC),
        two_classes=True,
    )
)
