"""Accuracy."""

from remind.metrics.formulas import accuracy
from remind.metrics.intervals import wilson
from remind.metrics.score import Score, register

register(
    Score(
        "accuracy",
        "accuracy",
        "acc",
        "share of patients whose most probable class is the true one",
        lambda s: accuracy(s.confusion_CC),
        lambda s: wilson(accuracy(s.confusion_CC), s.count),
    )
)
