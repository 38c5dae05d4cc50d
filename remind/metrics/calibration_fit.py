"""Fit a calibration and its operating points on merged validation statistics, and apply them to test statistics.

With two classes everything is computed from the merged score histograms, so no patient data and no further message is
needed. A score differs from the middle of its bin by at most 1/512 up to ±8, and by 1/384 of itself beyond. The fitted
parameters are therefore those of the pooled patients, within the bound that `tests/metrics/test_calibration_fit.py`
checks. With three classes or more, a temperature is fitted on sums that sites compute (`tempering`).

Shapes: K filled bins of the histogram of class 1 (row 0 the rest, row 1 the class).
"""

from collections.abc import Mapping
from dataclasses import replace
from math import log

import numpy as np
from numpy.typing import NDArray

from remind.config import OPERATING_POINT
from remind.config.evaluation import CalibrationMethod
from remind.metrics.calibration import Calibration, OperatingPoint, Scaling
from remind.metrics.histograms import BINS, ScoreHistograms, bins, centres, edges
from remind.metrics.reliability import probability
from remind.metrics.statistics import MOST_LOG_LOSS, GroupStatistics, total
from remind.metrics.tempering import TemperedSums, fit_temperature

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Placed = tuple[Integers, Integers]

LEAST = 10  # validation patients of each class, for a scaling or a threshold of the run
LEAST_IN_GROUP = 30  # of each class, for a group's own
FLATTEST, STEEPEST = 0.01, 20.0  # slope 1/T
PRIOR = 1.0  # weight in patients of a pull towards no change; it keeps the parameters finite for separable patients
FEW = f"{{}} validation patients of the rarest class; at least {LEAST} are needed"
FARTHEST = 1e300  # log-odds of a threshold, finite in JSON


def fit(
    validation: Mapping[int, GroupStatistics],
    classes: tuple[str, ...],
    method: CalibrationMethod,
    wanted: str = "",
    round_: int = 0,
    own: bool = False,
) -> Calibration:
    """Fit scaling and thresholds on merged validation statistics by group.

    Parameters
    ----------
    method
        temperature: one slope of the log-odds; vector: a slope and a bias.
    wanted
        ``"youden"``, ``"sensitivity >= 0.9"``, ``"specificity >= 0.9"``, or empty: no threshold.
    own
        Whether groups with at least `LEAST_IN_GROUP` validation patients of each class get their own scaling, pulled
        towards that of all patients. They always get their own threshold.
    """
    everyone = total(validation)
    lacking = _lacking(everyone, classes) if method != "none" or wanted else ""
    if lacking or everyone is None:
        return Calibration.none(classes, round_).model_copy(update={"wanted": wanted, "reason": lacking})
    scaling = _scaling(everyone, method, Scaling.of_temperature(1.0, len(classes)))
    large = {k: s for k, s in validation.items() if smaller_class(s) >= LEAST_IN_GROUP}
    scaled = Calibration(
        method=method,
        classes=classes,
        round=round_,
        patients=everyone.count,
        scaling=scaling,
        group_scaling={k: _scaling(s, method, scaling) for k, s in large.items()} if own and method != "none" else {},
        wanted=wanted,
    )
    if not wanted:
        return scaled
    points = {k: _moved(operating_point(_placed(s), wanted), scaled.scaling_of(k)) for k, s in large.items()}
    if not scaled.group_scaling:
        point = _moved(operating_point(_placed(everyone), wanted), scaling)
    else:
        whole = total(calibrated(validation, scaled))
        assert whole is not None
        point = operating_point(_placed(whole), wanted)
    return scaled.model_copy(update={"point": point, "group_points": points})


def fit_several(
    validation: Mapping[int, GroupStatistics], sums: TemperedSums | None, classes: tuple[str, ...], round_: int
) -> Calibration:
    """Fit one temperature for three classes or more, on the sums that sites sent; there are no thresholds."""
    everyone = total(validation)
    found = smaller_class(everyone) if everyone else 0
    if sums is None or found < LEAST:
        return Calibration.none(classes, round_).model_copy(update={"reason": FEW.format(found)})
    scaling = Scaling.of_temperature(fit_temperature(sums, PRIOR), len(classes))
    return Calibration(method="temperature", classes=classes, round=round_, patients=sums.count, scaling=scaling)


def _moved(point: OperatingPoint, scaling: Scaling) -> OperatingPoint:
    """Return the threshold of the same decisions, in calibrated log-odds."""
    return point.model_copy(update={"log_odds": float(scaling.odds(np.array([point.log_odds]))[0])})


def _lacking(everyone: GroupStatistics | None, classes: tuple[str, ...]) -> str:
    """Return why nothing can be fitted; empty if a fit is possible."""
    if len(classes) != 2:
        return f"operating points and vector scaling need two classes, and there are {len(classes)}"
    found = smaller_class(everyone) if everyone else 0
    return "" if found >= LEAST else FEW.format(found)


def smaller_class(statistics: GroupStatistics) -> int:
    """Return the number of patients of the rarest class."""
    return int(statistics.confusion_CC.sum(axis=1).min())


def _placed(statistics: GroupStatistics) -> Placed:
    return next(statistics.scores.placed())


def _scaling(statistics: GroupStatistics, method: CalibrationMethod, towards: Scaling) -> Scaling:
    """Minimise Σ −ln p of the true class over ln slope and bias, with `PRIOR` patients' pull towards a scaling.

    The sum is convex in slope and bias, so there is one minimum in ln slope and bias too.
    """
    if method == "none":
        return towards
    bins_K, (rest_K, class_K) = _placed(statistics)
    x_K = centres(bins_K)
    aim_P = np.array([log(towards.weights[1]), towards.bias[1] - towards.bias[0]])
    free = 2 if method == "vector" else 1

    def loss(step_P: Floats) -> tuple[float, Floats]:
        slope, bias = float(np.exp(aim_P[0] + step_P[0])), aim_P[1] + (step_P[1] if free == 2 else 0.0)
        z_K = slope * x_K + bias
        value = (class_K * np.logaddexp(0, -z_K) + rest_K * np.logaddexp(0, z_K)).sum()
        pull_K = rest_K * probability(z_K) - class_K * probability(-z_K)
        slope_P = np.array([(pull_K * x_K).sum() * slope, pull_K.sum()])[:free]
        return float(value + PRIOR * (step_P**2).sum() / 2), slope_P + PRIOR * step_P

    bounds = [(log(FLATTEST) - aim_P[0], log(STEEPEST) - aim_P[0]), (-20.0, 20.0)][:free]
    from scipy.optimize import minimize  # the import takes half a second, and a hospital does not need it

    found = minimize(
        loss, np.zeros(free), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-8}
    )
    slope, bias = float(np.exp(aim_P[0] + found.x[0])), float(aim_P[1] + (found.x[1] if free == 2 else 0.0))
    return Scaling.of_odds(slope, bias)


def operating_point(placed: Placed, wanted: str) -> OperatingPoint:
    """Return the threshold that fulfils a condition on these patients, at the best value of the other rate.

    The threshold is an edge between bins, in the middle of the gap between the patients above and below it. The
    histogram therefore tells for every patient on which side of the threshold the score is.
    """
    bins_K, (rest_K, class_K) = placed
    sensitivity_K = class_K[::-1].cumsum()[::-1] / class_K.sum()  # where bin k and all above it are called class 1
    specificity_K = (rest_K.cumsum() - rest_K) / rest_K.sum()
    asked = OPERATING_POINT.fullmatch(wanted)
    assert asked is not None, wanted
    if asked["what"] is None:
        k = int((sensitivity_K + specificity_K).argmax())
    elif asked["what"] == "sensitivity":
        k = int(np.flatnonzero(sensitivity_K >= float(asked["share"]) - 1e-12)[-1])
    else:
        reached = np.flatnonzero(specificity_K >= float(asked["share"]) - 1e-12)
        k = int(reached[0]) if len(reached) else len(bins_K)
    first = int(bins_K[k]) if k < len(bins_K) else int(bins_K[-1]) + 1
    before = int(bins_K[k - 1]) if k else first - 1
    low, _ = edges(np.array([min((before + 1 + first) // 2, BINS - 1)]))
    return OperatingPoint(
        log_odds=float(np.clip(low[0], -FARTHEST, FARTHEST)),
        sensitivity=float(sensitivity_K[k]) if k < len(bins_K) else 0.0,
        specificity=float(specificity_K[k]) if k < len(bins_K) else 1.0,
        positives=int(class_K.sum()),
        negatives=int(rest_K.sum()),
    )


def calibrated(statistics: Mapping[int, GroupStatistics], calibration: Calibration) -> dict[int, GroupStatistics]:
    """Return the statistics of the calibrated model's predictions and decisions; of two classes.

    Log-loss and Brier score use the middle of each score's bin. For scores up to ±8 their error is at most 1/512 of the
    slope, and half of that. Statistics that do not depend on the predictions (the objective's own loss, the gate,
    experts) stay unchanged.
    """
    return {
        k: _after(s, calibration.scaling_of(k), point.log_odds if (point := calibration.point_of(k)) else 0.0)
        for k, s in statistics.items()
    }


def _after(statistics: GroupStatistics, scaling: Scaling, threshold: float) -> GroupStatistics:
    bins_K, counts_2K = _placed(statistics)
    z_K = scaling.odds(centres(bins_K))
    place_K = bins(z_K)
    cells = [(0, hit, int(place), int(n)) for hit in (0, 1) for place, n in zip(place_K, counts_2K[hit], strict=True)]
    above_K = scaling.odds(edges(bins_K)[0]) >= threshold
    loss_2K = np.minimum(np.stack([np.logaddexp(0, z_K), np.logaddexp(0, -z_K)]), MOST_LOG_LOSS)
    brier_2K = np.stack([probability(z_K), probability(-z_K)]) ** 2
    return replace(
        statistics,
        log_loss_sum=float((counts_2K * loss_2K).sum()),
        log_loss_squares=float((counts_2K * loss_2K**2).sum()),
        brier_sum=float((counts_2K * brier_2K).sum()),
        brier_squares=float((counts_2K * brier_2K**2).sum()),
        confusion_CC=np.array([[int(own[~above_K].sum()), int(own[above_K].sum())] for own in counts_2K]),
        scores=ScoreHistograms.of(cell for cell in cells if cell[3]),
    )
