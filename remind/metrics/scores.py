"""The registry of scores (algorithm §4.14): the only place that defines which scores exist and what each of them is.

Tables, summary, page, CSV, run store, sinks, metrics, studies and words iterate over `SCORES`: our own scores, then
those of the modules of `more_scores` and of other packages (entry points `remind.scores`), which take one file each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.metrics import formulas, reliability, thresholds
from remind.metrics.histograms import bins
from remind.metrics.intervals import (
    Interval,
    auroc_interval,
    balanced_accuracy_interval,
    macro_f1_interval,
    mean_interval,
    wilson,
)
from remind.metrics.score import Score, extended, more_scores, names_of
from remind.metrics.statistics import GroupStatistics

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bounded = tuple[float, float]
TIGHT = 0.005  # a score with a larger bound is never shown without it


def mean_auroc(statistics: GroupStatistics) -> Bounded | None:
    """Return the one-versus-rest AUROC, macro-averaged beyond two classes, and its bound; None if no class has one."""
    return _macro(statistics, formulas.auroc)


def mean_average_precision(statistics: GroupStatistics) -> Bounded | None:
    """Return the one-versus-rest average precision, as `mean_auroc`."""
    return _macro(statistics, thresholds.average_precision)


def mean_sensitivity(statistics: GroupStatistics) -> Bounded | None:
    """Return the one-versus-rest sensitivity at specificity .9, as `mean_auroc`."""
    return _macro(statistics, thresholds.sensitivity_at)


def reliability_curves(statistics: GroupStatistics) -> list[reliability.Curve]:
    """Return the reliability curve of each class scored: of class 1, or beyond two classes of all."""
    return [reliability.curve(placed) for placed in statistics.scores.placed()]


def _macro(statistics: GroupStatistics, score: Callable[[Integers], Bounded | None]) -> Bounded | None:
    found = [one for histogram_2K in statistics.scores.each() if (one := score(histogram_2K)) is not None]
    return (float(np.mean([v for v, _ in found])), float(np.mean([b for _, b in found]))) if found else None


def _value(of: Callable[[GroupStatistics], Bounded | None], part: int = 0) -> Callable[[GroupStatistics], float | None]:
    def one(statistics: GroupStatistics) -> float | None:
        found = of(statistics)
        return None if found is None else found[part]

    return one


def _bound(of: Callable[[GroupStatistics], Bounded | None]) -> Callable[[GroupStatistics], float | None]:
    return _value(of, 1)


def _net_benefit(statistics: GroupStatistics) -> float:
    found = [thresholds.net_benefit(h_2K, above_K, thresholds.NET_BENEFIT_AT) for h_2K, above_K in _treated(statistics)]
    return float(np.mean(found))


def _net_benefit_interval(statistics: GroupStatistics) -> Interval:
    at = thresholds.NET_BENEFIT_AT
    found = [thresholds.net_benefit_interval(h_2K, above_K, at) for h_2K, above_K in _treated(statistics)]
    return float(np.mean([low for low, _ in found])), float(np.mean([high for _, high in found]))


def _treated(statistics: GroupStatistics) -> list[tuple[Integers, NDArray[np.bool_]]]:
    last = int(bins(np.array([thresholds.NET_BENEFIT_ODDS]))[0])
    return [(histogram_2K, bins_K > last) for bins_K, histogram_2K in statistics.scores.placed()]


OWN: dict[str, Score] = {
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
            _value(mean_auroc),
            lambda s: auroc_interval(s.scores.each()),
            _bound(mean_auroc),
            two_classes=True,
        ),
        Score(
            "auprc",
            "AUPRC",
            "AUPRC",
            "average precision: the mean, over the class, of the share that is of the class among all scored as high",
            _value(mean_average_precision),
            lambda s: thresholds.precision_interval(s.scores.each()),
            _bound(mean_average_precision),
            two_classes=True,
        ),
        Score(
            "sensitivity",
            "sensitivity at specificity .90",
            "sens@90",
            "share of the class that is found if a tenth of the rest is called wrongly",
            _value(mean_sensitivity),
            lambda s: thresholds.sensitivity_interval(s.scores.each()),
            _bound(mean_sensitivity),
            two_classes=True,
        ),
        Score(
            "net_benefit",
            "net benefit at .20",
            "benefit",
            "hits less weighed false alarms, per patient, if who has a probability of .20 is treated",
            _net_benefit,
            _net_benefit_interval,
            within_one=False,
        ),
        Score(
            "brier",
            "Brier score",
            "Brier",
            "mean squared error of the probabilities",
            lambda s: s.brier,
            lambda s: mean_interval(
                s.brier_sum, s.brier_squares, s.count, most=2.0 if len(s.confusion_CC) > 2 else 1.0
            ),
            lower_is_better=True,
            within_one=False,
        ),
        Score(
            "ece",
            "calibration error",
            "ECE",
            "mean difference between predicted probability and observed share, over ten ranges of probability",
            lambda s: float(np.mean([reliability.ece(one) for one in reliability_curves(s)])),
            lambda s: reliability.ece_interval(reliability_curves(s)),
            lower_is_better=True,
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
MORE = more_scores(OWN)  # after our own, by name
SCORES: dict[str, Score] = OWN | MORE
WITH_INTERVAL = tuple(name for name, score in SCORES.items() if score.interval)
BOUNDED = tuple(name for name, score in SCORES.items() if score.bound)
BOUNDS = tuple(f"{name}_bound" for name in BOUNDED)
WITHOUT_INTERVAL = tuple(name for name, score in SCORES.items() if not score.interval)


@dataclass(frozen=True)
class Scores:
    """The scores that tables show for a group of patients: every score of the registry, None where it is undefined.

    Attributes
    ----------
    n, positives
        Patients, and those of class 1 (two classes only).
    auroc_bound, auprc_bound, sensitivity_bound
        Largest possible difference to the score of the unbinned scores.
    """

    n: int
    positives: int | None
    accuracy: float
    balanced_accuracy: float | None
    macro_f1: float
    auroc: float | None
    auroc_bound: float | None
    auprc: float | None
    auprc_bound: float | None
    sensitivity: float | None
    sensitivity_bound: float | None
    net_benefit: float
    brier: float
    ece: float
    log_loss: float
    loss: float


if MORE:
    Scores = extended(Scores, dict.fromkeys(names_of(MORE, ("", "_bound")), (float | None, None)))  # type: ignore[misc]


def scores(statistics: GroupStatistics) -> Scores:
    """Compute the scores of the patients behind the statistics."""
    confusion_CC = statistics.confusion_CC
    values = {name: score.value(statistics) for name, score in SCORES.items()}
    values |= {f"{name}_bound": score.bound(statistics) for name, score in SCORES.items() if score.bound is not None}
    return Scores(
        n=statistics.count,
        positives=int(confusion_CC[1].sum()) if len(confusion_CC) == 2 else None,
        **values,  # type: ignore[arg-type]  # which score is never None, the registry's types do not say
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
