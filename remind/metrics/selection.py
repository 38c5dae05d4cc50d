"""Choose the round whose model is the run's: the best by a measure on validation patients.

The same validation patients evaluate the model in every round. `judge` computes its value, and `is_better` compares
two values.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from remind.metrics.aggregates import examine, measure, scope_of
from remind.metrics.scores import EVERY
from remind.metrics.statistics import GroupStatistics, total

LEAST = 10  # validation patients of a group that enters mean-tail or worst-group
ALIKE = 0.9  # two rounds are compared only if one has at least this share of the other's patients


@dataclass(frozen=True)
class Verdict:
    """The value of a round's model on validation patients.

    Attributes
    ----------
    round
        Number of rounds that trained the model.
    value
        Value of the measure and score that the config names.
    patients
        Number of validation patients behind the value.
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
    """Return whether a later model is better. With far fewer patients it is not; with far more, it is."""
    if best is None or best.patients < ALIKE * new.patients:
        return True
    if new.patients < ALIKE * best.patients:
        return False
    return new.value < best.value if EVERY[score].lower_is_better else new.value > best.value
