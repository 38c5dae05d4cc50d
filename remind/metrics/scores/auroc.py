"""AUROC."""

from remind.metrics import one_versus_rest
from remind.metrics.formulas import auroc
from remind.metrics.intervals import auroc_interval
from remind.metrics.score import BY_CLASS, Score, register

register(
    Score(
        "auroc",
        "AUROC",
        "AUROC",
        "chance that a patient of the class has the higher score than one of the rest",
        one_versus_rest.value(auroc),
        lambda s: auroc_interval(s.scores.each()),
        one_versus_rest.bound(auroc),
        two_classes=True,
        outcomes=(*BY_CLASS, "multilabel"),
        guessing=(0.5, 0.6),
    )
)
