"""The registry of scores (algorithm §4.14): each is one module of this folder, which registers itself.

Tables, summary, page, CSV, run store, sinks, metrics, studies and words iterate over `SCORES`. Other packages add
scores by the entry points `remind.scores`; docs/extend.md shows a whole one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from remind.metrics.intervals import Interval
from remind.metrics.score import Score, extended, names_of, registered
from remind.metrics.statistics import GroupStatistics

Floats = NDArray[np.float64]
TIGHT = 0.005  # a score with a larger bound is never shown without it
# Only the order of lists for people; others follow by name.
LISTED = (
    *("accuracy", "balanced_accuracy", "macro_f1", "auroc", "auprc", "sensitivity", "net_benefit", "brier", "ece"),
    *("log_loss", "loss"),
)
SCORES: dict[str, Score] = registered(LISTED)
WITH_INTERVAL = tuple(name for name, score in SCORES.items() if score.interval)
BOUNDED = tuple(name for name, score in SCORES.items() if score.bound)
BOUNDS = tuple(f"{name}_bound" for name in BOUNDED)
WITHOUT_INTERVAL = tuple(name for name, score in SCORES.items() if not score.interval)


@dataclass(frozen=True)
class Scores:
    """The scores that tables show for a group of patients: every score of the registry, None where it is undefined.

    The bound of a score, such as `auroc_bound`, is the largest possible difference to the score of the unbinned scores.

    Attributes
    ----------
    n, positives
        Patients, and those of class 1 (two classes only).
    """

    n: int
    positives: int | None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> float | None: ...  # the fields below


Scores = extended(Scores, dict.fromkeys(names_of(SCORES, ("", "_bound")), (float | None, None)))  # type: ignore[misc]


def scores(statistics: GroupStatistics) -> Scores:
    """Compute the scores of the patients behind the statistics."""
    confusion_CC = statistics.confusion_CC
    values = {name: score.value(statistics) for name, score in SCORES.items()}
    values |= {f"{name}_bound": score.bound(statistics) for name, score in SCORES.items() if score.bound is not None}
    positives = int(confusion_CC[1].sum()) if len(confusion_CC) == 2 else None
    return Scores(n=statistics.count, positives=positives, **values)


def intervals(statistics: GroupStatistics) -> dict[str, Interval | None]:
    """Return the 95 % intervals of the scores that have one; None if the score is undefined."""
    return {name: s.interval(statistics) for name, s in SCORES.items() if s.interval is not None}


def experts_in_effect(use_E: Floats) -> float | None:
    """Return the number of equally used experts with the same entropy: exp of the entropy of the weights; 1 … E.

    Returns None if no expert has any weight.
    """
    weight = float(use_E.sum())
    if weight <= 0:
        return None
    p_E = use_E[use_E > 0] / weight
    return float(np.exp(-(p_E * np.log(p_E)).sum()))
