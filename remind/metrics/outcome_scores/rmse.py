"""Root of the mean squared error, in the target's unit."""

from remind.metrics import regression
from remind.metrics.score import Score, register

register(
    Score(
        "rmse",
        "root mean squared error",
        "RMSE",
        "root of the mean squared distance between predicted and true number, in its unit",
        regression.rmse,
        regression.rmse_interval,
        lower_is_better=True,
        within_one=False,
        outcomes=("regression",),
        in_unit=True,
    )
)
