"""Sensitivity at specificity .90."""

from remind.metrics import one_versus_rest
from remind.metrics.score import BY_CLASS, Score, register
from remind.metrics.thresholds import sensitivity_at, sensitivity_interval

register(
    Score(
        "sensitivity",
        "sensitivity at specificity .90",
        "sens@90",
        "share of the class that is found if a tenth of the rest is called positive",
        one_versus_rest.value(sensitivity_at),
        lambda s: sensitivity_interval(s.scores.each()),
        one_versus_rest.bound(sensitivity_at),
        two_classes=True,
        outcomes=(*BY_CLASS, "multilabel"),
    )
)
