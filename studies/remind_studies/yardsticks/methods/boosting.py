"""Boosted trees: LightGBM on summary features."""

import logging
from typing import Any

import numpy as np
from pydantic import Field
from typing_extensions import override

from remind.data.features import Features
from remind.registry import Options
from remind_studies.yardsticks.base import (
    NUMBER,
    Floats,
    Hospital,
    Learner,
    Model,
    Sample,
    folds,
    in_order,
    missing,
    one_class,
    registry,
)

FOLDS, PATIENCE = 5, 30
MOST_ROUNDS = 400


class BoostingOptions(Options):
    """Options of `Boosting`; `rounds` 0: chosen by cross-validation, at most 400."""

    rounds: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=0.05, gt=0)
    leaves: int = Field(default=15, ge=2)
    least_patients: int = Field(default=10, ge=1)
    columns: float = Field(default=0.5, gt=0, le=1)


class Trees(Model):
    """A fitted ensemble. Two classes: LightGBM gives the probability of the second."""

    def __init__(self, booster: Any, classes: int) -> None:
        self._booster, self._classes = booster, classes

    @override
    def predict(self, features: Features) -> Floats:
        p = np.asarray(self._booster.predict(features.values_NF, num_threads=1))
        if self._classes == NUMBER:
            return p[:, None]
        return np.stack([1 - p, p], axis=1) if p.ndim == 1 else p


@registry.register("boosting", title="boosted trees, LightGBM", paper="Ke et al.", year=2017, options=BoostingOptions)
class Boosting(Learner):
    """The number of trees is chosen by cross-validation within the training patients, whatever the hospital's size."""

    options: BoostingOptions

    @override
    def fit(self, hospital: Hospital, classes: int) -> Model:
        lightgbm = _library()
        train, parameters = in_order(hospital.train), self._parameters(classes)
        rounds = self.options.rounds or _rounds(lightgbm, parameters, train)
        return Trees(lightgbm.train(parameters, _data(lightgbm, train), rounds), classes)

    def _parameters(self, classes: int) -> dict[str, Any]:
        own = self.options
        named = {NUMBER: "regression", 2: "binary"}.get(classes, "multiclass")
        objective = {"objective": named} | ({"num_class": classes} if named == "multiclass" else {})
        return {
            **objective,
            "learning_rate": own.learning_rate,
            "num_leaves": own.leaves,
            "min_child_samples": own.least_patients,
            "feature_fraction": own.columns,
            "seed": 0,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }


def _rounds(lightgbm: Any, parameters: dict[str, Any], train: Sample) -> int:
    """Return the number of trees of the smallest mean loss over the folds: log-loss, or the squared error of a number.

    Folds that would leave one class to train on are left out; where none remains, a tenth of the most.
    """
    fold_N = folds(train, FOLDS)
    pairs = [(np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)) for fold in range(FOLDS)]
    pairs = [(rest, held) for rest, held in pairs if len(held) and not one_class(train.label_N[rest])]
    if not pairs:
        return MOST_ROUNDS // 10
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    found = lightgbm.cv(parameters, _data(lightgbm, train), MOST_ROUNDS, folds=pairs, callbacks=[stop])
    return len(next(iter(found.values())))


def _data(lightgbm: Any, sample: Sample) -> Any:
    return lightgbm.Dataset(sample.features.values_NF, sample.label_N, params={"verbose": -1}, free_raw_data=False)


def _library() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise missing("lightgbm") from None
    lightgbm.register_logger(logging.getLogger(__name__))
    return lightgbm
