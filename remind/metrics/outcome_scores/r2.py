"""R², the share of the target's variance that the predictions explain."""

from remind.metrics import regression
from remind.metrics.score import Score, register

register(
    Score(
        "r2",
        "R²",
        "R²",
        "share of the variance that predictions explain; 0: no better than the patients' own mean",
        regression.r2,
        regression.r2_interval,
        within_one=False,
        outcomes=("regression",),
        guessing=(0.0, 0.04),  # a correlation of .2
    )
)
