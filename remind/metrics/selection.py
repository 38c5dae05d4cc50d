"""Which round's model is the run's: the best by a measure on validation patients.

A model is judged by the statistics of the same validation patients in every round. `judge` gives its value, `is_better`
compares two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from remind.metrics.aggregates import examine, measure, scope_of
from remind.metrics.scores import SCORES
from remind.metrics.statistics import GroupStatistics, total

LEAST = 10  # validation patients of a group that enters mean-tail or worst-group
ALIKE = 0.9  # a round with a smaller share of the other's patients is not compared with it


@dataclass(frozen=True)
class Verdict:
    """What the validation patients say of a round's model.

    Attributes
    ----------
    round
        Rounds after which it was the global model.
    value
        Of the measure and score that the run asks for.
    patients
        Validation patients behind it.
    """

    round: int
    value: float
    patients: int


def judge(
    measured: str, score: str, round_: int, validation: Mapping[int, GroupStatistics], counts: Mapping[int, int]
) -> Verdict | None:
    """Judge a round's model by its merged validation statistics; None where the measure is undefined.

    Parameters
    ----------
    measured
        One of `train.select` but last.
    counts
        Training patients per group, from which the tail follows.
    """
    everyone = total(validation)
    if everyone is None:
        return None
    model = examine({"": validation})
    value = measure(measured.replace("-", "_"), model, scope_of(model, counts, LEAST))[score]
    return None if value is None else Verdict(round_, value, everyone.count)


def is_better(new: Verdict, best: Verdict | None, score: str) -> bool:
    """Return whether a later model is better. One that was judged on far fewer patients is not; on far more, it is."""
    if best is None or best.patients < ALIKE * new.patients:
        return True
    if new.patients < ALIKE * best.patients:
        return False
    return new.value < best.value if SCORES[score].lower_is_better else new.value > best.value
