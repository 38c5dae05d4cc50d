"""The registry of scores (algorithm §4.14): each is one module of this folder, which registers itself.

`SCORES` are those of classes, and `EVERY` also has those of other outcomes (`remind.metrics.outcome_scores`). Tables,
summary, page, CSV and words iterate over the scores of a run's outcome, `scores_of`; run store, sinks and metrics over
`EVERY`; studies over those of a cohort's outcome. Other packages add scores by the entry points `remind.scores`;
docs/extend.md shows a whole one.
"""

from collections.abc import Mapping, Sequence
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
OF_OUTCOMES = (
    *("weighted_kappa", "mae", "rmse", "r2", "ccc", "c_index", "c_ipcw", "integrated_brier"),
    *("dice", "dice_1", "dice_2", "dice_3", "dice_4", "dice_pooled"),
    *("hd95", "hd95_1", "hd95_2", "hd95_3", "hd95_4"),
)
EVERY: dict[str, Score] = registered((*LISTED[:-2], *OF_OUTCOMES, *LISTED[-2:]))
SCORES: dict[str, Score] = {name: score for name, score in EVERY.items() if score.is_of("classes")}
WITH_INTERVAL = tuple(name for name, score in EVERY.items() if score.interval)
BOUNDED = tuple(name for name, score in EVERY.items() if score.bound)
BOUNDS = tuple(f"{name}_bound" for name in BOUNDED)
WITHOUT_INTERVAL = tuple(name for name, score in EVERY.items() if not score.interval)


@dataclass(frozen=True)
class Scores:
    """The scores of a group of patients: every score of the registry, None where it is undefined or of other outcomes.

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


Scores = extended(Scores, dict.fromkeys(names_of(EVERY, ("", "_bound")), (float | None, None)))  # type: ignore[misc]


def scores_of(outcome: str, parts: Sequence[str] | None = None) -> dict[str, Score]:
    """Return the scores of an outcome, by name, in the order of lists.

    Parameters
    ----------
    outcome
        Its kind.
    parts
        Names of the parts that are predicted (`Outcome.parts`): scores of other parts are left out, and those of these
        have the names in their words. None: not known; then all that there can be are returned.
    """
    found = {}
    for name, score in EVERY.items():
        if not score.is_of(outcome):
            continue
        if score.part is None or parts is None:
            found[name] = score
        elif score.part.position < len(parts):
            found[name] = score.part.named(parts[score.part.position])
    return found


def scores_from(statistics: GroupStatistics) -> dict[str, Score]:
    """Return the scores that can be computed from the statistics, without those of parts that there are not."""
    own = scores_of(statistics.outcome)
    return {name: s for name, s in own.items() if s.part is None or s.value(statistics) is not None}


def scores(statistics: GroupStatistics) -> Scores:
    """Compute the scores of the patients behind the statistics."""
    confusion_CC = statistics.confusion_CC
    own = scores_from(statistics)
    values = {name: score.value(statistics) for name, score in own.items()}
    values |= {f"{name}_bound": score.bound(statistics) for name, score in own.items() if score.bound is not None}
    positives = int(confusion_CC[1].sum()) if len(confusion_CC) == 2 else None
    return Scores(n=statistics.count, positives=positives, **values)


def row_of(statistics: GroupStatistics | None, own: Mapping[str, Score]) -> dict[str, int | float | None]:
    """Return n, positives, and these scores with their bounds, by name; n is 0 if there are no patients."""
    names = ("n", "positives", *names_of(own, ("", "_bound")))
    found = None if statistics is None else scores(statistics)
    return {name: getattr(found, name, None) for name in names} | ({"n": 0} if found is None else {})


def intervals(statistics: GroupStatistics) -> dict[str, Interval | None]:
    """Return the 95 % intervals of the scores that have one; None if the score is undefined."""
    own = scores_from(statistics)
    return {name: s.interval(statistics) for name, s in own.items() if s.interval is not None}


def experts_in_effect(use_E: Floats) -> float | None:
    """Return the number of equally used experts with the same entropy: exp of the entropy of the weights; 1 … E.

    Returns None if no expert has any weight.
    """
    weight = float(use_E.sum())
    if weight <= 0:
        return None
    p_E = use_E[use_E > 0] / weight
    return float(np.exp(-(p_E * np.log(p_E)).sum()))
