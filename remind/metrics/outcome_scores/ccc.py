"""Concordance correlation coefficient (Lin 1989)."""

from remind.metrics import regression
from remind.metrics.score import Score, register

register(
    Score(
        "ccc",
        "concordance correlation",
        "CCC",
        "correlation of predicted and true number, reduced by what they differ in mean and spread",
        regression.ccc,
        regression.ccc_interval,
        within_one=False,
        outcomes=("regression",),
    )
)
