"""Logistic regression with a ridge penalty; of numbers, linear regression.

Letters: N patients, F columns of features, Z of inputs.
"""

from typing import Any

import numpy as np
from typing_extensions import override

from remind.data.features import Features
from remind_studies.yardsticks.base import (
    NUMBER,
    Floats,
    Hospital,
    Labels,
    Learner,
    Model,
    Sample,
    folds,
    in_order,
    mean_loss,
    missing,
    one_class,
    registry,
)

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # scikit-learn's C, tried in cross-validation
FOLDS = 5
WITHIN = (0.01, 0.99)  # quantiles at which values are cut: a chart holds a pH of 735


class Inputs:
    """Standardised inputs of a linear model, from the moments of training patients.

    Numbers are cut at their 1st and 99th percentile, standardised, and 0 where missing; levels are one column each. A
    column that training patients may lack has one more that says so.
    """

    def __init__(self, train: Features) -> None:
        levels_F = np.array(train.columns.levels_F)
        self._numbers = np.flatnonzero(levels_F == 0)
        self._levels = [(int(f), int(levels_F[f])) for f in np.flatnonzero(levels_F)]
        values_NF = train.values_NF[:, self._numbers]
        known_F = (~np.isnan(values_NF)).any(axis=0)
        self._numbers, values_NF = self._numbers[known_F], values_NF[:, known_F]
        self._low_F, self._high_F = np.nanquantile(values_NF, WITHIN, axis=0)
        cut_NF = np.clip(values_NF, self._low_F, self._high_F)
        self._mean_F, std_F = np.nanmean(cut_NF, axis=0), np.nanstd(cut_NF, axis=0)
        self._std_F = np.where(std_F > 0, std_F, 1.0)
        self._missing = np.flatnonzero(np.isnan(train.values_NF).any(axis=0))

    def __call__(self, features: Features) -> Floats:
        """Return the inputs, (N, Z)."""
        values_NF = features.values_NF
        cut_NF = np.clip(values_NF[:, self._numbers], self._low_F, self._high_F)
        parts = [np.nan_to_num((cut_NF - self._mean_F) / self._std_F)]
        parts += [(values_NF[:, [f]] == np.arange(levels)).astype(np.float64) for f, levels in self._levels]
        parts.append(np.isnan(values_NF[:, self._missing]).astype(np.float64))
        return np.concatenate(parts, axis=1)


class Linear(Model):
    """A fitted regression; classes that the hospital has not seen have the probability 0."""

    def __init__(self, inputs: Inputs, regression: Any, classes: int) -> None:
        self._inputs, self._regression, self._classes = inputs, regression, classes

    @override
    def predict(self, features: Features) -> Floats:
        return _predicted(self._regression, self._inputs(features), self._classes)


@registry.register("logistic", title="logistic regression with a ridge penalty", paper="Cox", year=1958)
class Logistic(Learner):
    """The penalty is chosen by cross-validation within the training patients."""

    @override
    def fit(self, hospital: Hospital, classes: int) -> Model:
        train = in_order(hospital.train)
        inputs = Inputs(train.features)
        penalty = PENALTIES[int(np.argmin(_losses(train, classes)))]
        return Linear(inputs, _regression(inputs(train.features), train.label_N, penalty, classes), classes)


def _losses(train: Sample, classes: int) -> list[float]:
    """Return the mean loss of each penalty over the folds; a fold that leaves one class to train on is left out."""
    features, label_N, fold_N = train.features, train.label_N, folds(train, FOLDS)
    found: list[list[float]] = [[] for _ in PENALTIES]
    for fold in range(FOLDS):
        rest, held = fold_N != fold, fold_N == fold
        if one_class(label_N[rest]) or not held.any():
            continue
        inputs = Inputs(features.take(rest))
        x_train, x_held = inputs(features.take(rest)), inputs(features.take(held))
        for i, penalty in enumerate(PENALTIES):
            regression = _regression(x_train, label_N[rest], penalty, classes)
            found[i].append(mean_loss(_predicted(regression, x_held, classes), label_N[held], classes))
    return [float(np.mean(losses)) if losses else 0.0 for losses in found]


def _predicted(regression: Any, x_NZ: Floats, classes: int) -> Floats:
    if classes == NUMBER:
        return np.asarray(regression.predict(x_NZ))[:, None]
    p_NC = np.zeros((len(x_NZ), classes))
    p_NC[:, regression.classes_] = regression.predict_proba(x_NZ)
    return p_NC


def _regression(x_NZ: Floats, label_N: Labels, penalty: float, classes: int) -> Any:
    try:
        from sklearn.linear_model import LogisticRegression, Ridge
    except ImportError:
        raise missing("scikit-learn") from None
    if classes == NUMBER:
        return Ridge(alpha=1 / penalty).fit(x_NZ, label_N)
    return LogisticRegression(C=penalty, max_iter=1000).fit(x_NZ, label_N)
