"""Calibration error (ECE), the mean over the classes scored."""

import numpy as np

from remind.metrics.reliability import curves, ece, ece_interval
from remind.metrics.score import BY_CLASS, Score, register

register(
    Score(
        "ece",
        "calibration error",
        "ECE",
        "mean difference between predicted probability and observed share, over ten ranges of probability",
        lambda s: float(np.mean([ece(one) for one in curves(s.scores)])),
        lambda s: ece_interval(curves(s.scores)),
        lower_is_better=True,
        outcomes=(*BY_CLASS, "multilabel"),
    )
)
