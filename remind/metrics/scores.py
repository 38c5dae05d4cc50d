"""The registry of scores (algorithm §4.14): the only place that defines which scores exist and what each of them is.

Tables, summary, page, CSV, run store, sinks, metrics, studies and words iterate over `SCORES`. A new score is a line
here, a field of `Scores` and of the page's answers (a test names them), and a migration of the run store.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.metrics import formulas
from remind.metrics.intervals import (
    Interval,
    auroc_interval,
    balanced_accuracy_interval,
    macro_f1_interval,
    wilson,
)
from remind.metrics.statistics import GroupStatistics

Floats = NDArray[np.float64]
TIGHT = 0.005  # an AUROC with a larger bound is never shown without it


@dataclass(frozen=True)
class Score:
    """One score of a set of patients.

    Attributes
    ----------
    name
        Name in files, messages and addresses.
    title, column
        For people: in a sentence, and as the head of a narrow column.
    meaning
        What the score measures, in a few words.
    value
        Function that computes it from merged statistics; None where it is undefined.
    interval
        Function that computes its 95 % interval; None for a score without an interval.
    lower_is_better
        Direction of the score.
    within_one
        Whether it lies in 0 … 1.
    two_classes
        Whether it is undefined if only one class occurs among the patients.
    comparable
        Whether it can compare models that were trained with different objectives.
    """

    name: str
    title: str
    column: str
    meaning: str
    value: Callable[[GroupStatistics], float | None]
    interval: Callable[[GroupStatistics], Interval | None] | None = None
    lower_is_better: bool = False
    within_one: bool = True
    two_classes: bool = False
    comparable: bool = True


def mean_auroc(statistics: GroupStatistics) -> tuple[float, float] | None:
    """Return the one-versus-rest AUROC, macro-averaged beyond two classes, and its bound; None if no class has one."""
    found = [one for histogram_2K in statistics.scores.each() if (one := formulas.auroc(histogram_2K)) is not None]
    return (float(np.mean([v for v, _ in found])), float(np.mean([b for _, b in found]))) if found else None


def _auroc(statistics: GroupStatistics) -> float | None:
    found = mean_auroc(statistics)
    return None if found is None else found[0]


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(
            "accuracy",
            "accuracy",
            "acc",
            "share of patients whose likeliest class is the true one",
            lambda s: formulas.accuracy(s.confusion_CC),
            lambda s: wilson(formulas.accuracy(s.confusion_CC), s.count),
        ),
        Score(
            "balanced_accuracy",
            "balanced accuracy",
            "bal",
            "mean over classes of the share that is recognised",
            lambda s: formulas.balanced_accuracy(s.confusion_CC),
            lambda s: balanced_accuracy_interval(s.confusion_CC),
            two_classes=True,
        ),
        Score(
            "macro_f1",
            "macro-F1",
            "F1",
            "mean over classes of F1",
            lambda s: formulas.macro_f1(s.confusion_CC),
            lambda s: macro_f1_interval(s.confusion_CC),
        ),
        Score(
            "auroc",
            "AUROC",
            "AUROC",
            "chance that a patient of the class has the higher score than one of the rest",
            _auroc,
            lambda s: auroc_interval(s.scores.each()),
            two_classes=True,
        ),
        Score(
            "log_loss",
            "log-loss",
            "log-loss",
            "mean of −ln p of the true class, the same for every objective",
            lambda s: s.log_loss,
            lower_is_better=True,
            within_one=False,
        ),
        Score(
            "loss",
            "own loss",
            "own loss",
            "mean of the objective's own loss, which steers λ; not comparable between objectives",
            lambda s: s.loss,
            lower_is_better=True,
            within_one=False,
            comparable=False,
        ),
    )
}
WITH_INTERVAL = tuple(name for name, score in SCORES.items() if score.interval)
WITHOUT_INTERVAL = tuple(name for name, score in SCORES.items() if not score.interval)


@dataclass(frozen=True)
class Scores:
    """The scores that tables show for a group of patients: every score of the registry, None where it is undefined.

    Attributes
    ----------
    n, positives
        Patients, and those of class 1 (two classes only).
    auroc_bound
        Largest possible difference to the AUROC of the unbinned scores.
    """

    n: int
    positives: int | None
    accuracy: float
    balanced_accuracy: float | None
    macro_f1: float
    auroc: float | None
    auroc_bound: float | None
    log_loss: float
    loss: float


def scores(statistics: GroupStatistics) -> Scores:
    """Compute the scores of the patients behind the statistics."""
    confusion_CC, area = statistics.confusion_CC, mean_auroc(statistics)
    values = {name: score.value(statistics) for name, score in SCORES.items()}
    return Scores(
        n=statistics.count,
        positives=int(confusion_CC[1].sum()) if len(confusion_CC) == 2 else None,
        auroc_bound=None if area is None else area[1],
        **values,  # type: ignore[arg-type]  # accuracy, macro-F1 and losses are never None
    )


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
