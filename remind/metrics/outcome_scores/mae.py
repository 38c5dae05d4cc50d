"""Mean absolute error, in the target's unit."""

from remind.metrics import regression
from remind.metrics.score import Score, register

register(
    Score(
        "mae",
        "mean absolute error",
        "MAE",
        "mean distance between predicted and true number, in its unit",
        regression.mae,
        regression.mae_interval,
        lower_is_better=True,
        within_one=False,
        outcomes=("regression",),
        in_unit=True,
    )
)
