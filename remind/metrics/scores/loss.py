"""The objective's own loss."""

from remind.metrics.score import Score, register

register(
    Score(
        "loss",
        "own loss",
        "own loss",
        "mean of the objective's own loss, which steers λ; not comparable between objectives",
        lambda s: s.loss,
        lower_is_better=True,
        within_one=False,
        outcomes=(),
        comparable=False,
    )
)
