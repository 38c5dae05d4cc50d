"""AUPRC, as average precision."""

from remind.metrics import one_versus_rest
from remind.metrics.score import BY_CLASS, Score, register
from remind.metrics.thresholds import average_precision, precision_interval

register(
    Score(
        "auprc",
        "AUPRC",
        "AUPRC",
        "average precision: mean over the patients of the class of the precision at their score",
        one_versus_rest.value(average_precision),
        lambda s: precision_interval(s.scores.each()),
        one_versus_rest.bound(average_precision),
        two_classes=True,
        outcomes=(*BY_CLASS, "multilabel"),
    )
)
