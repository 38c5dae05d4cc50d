"""Log-loss, the same for every objective."""

from remind.metrics.score import Score, register

register(
    Score(
        "log_loss",
        "log-loss",
        "log-loss",
        "mean of −ln p of the true class (of other outcomes: −ln of their likelihood), the same for every objective",
        lambda s: s.log_loss,
        lower_is_better=True,
        within_one=False,
        outcomes=(),
    )
)
