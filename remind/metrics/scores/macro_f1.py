"""Macro-F1."""

from remind.metrics.formulas import macro_f1
from remind.metrics.intervals import macro_f1_interval
from remind.metrics.score import Score, register

register(
    Score(
        "macro_f1",
        "macro-F1",
        "F1",
        "mean over classes of F1",
        lambda s: macro_f1(s.confusion_CC),
        lambda s: macro_f1_interval(s.confusion_CC),
        two_classes=True,
    )
)
