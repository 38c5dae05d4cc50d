"""Models of tables that each hospital fits by itself: boosted trees (LightGBM) and logistic regression (scikit-learn).

A fitted model is stored as text, so that reading the file runs no code. The libraries are imported when a model is
fitted or used.

Shapes: R training patients, P patients to score, X numbers per patient, Z columns of a linear model, C classes.
"""

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from remind.data.features.batches import Rows
from remind.errors import UserError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
TREES = 150  # number of trees per class
TREE_SETTINGS: Mapping[str, Any] = {  # small trees and a low learning rate, for 200 to 5 000 patients at a hospital
    "learning_rate": 0.05,
    "num_leaves": 8,
    "min_child_samples": 20,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.5,
    "reg_lambda": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
STRENGTH = 0.01  # scikit-learn's C: the inverse of the ridge penalty on standardised columns
TAILS = (1.0, 99.0)  # numbers are clipped at these percentiles, since real records contain a pH of 735


class Learner(ABC):
    """A classifier of rows of numbers, with NaN for missing values."""

    @abstractmethod
    def fit(self, rows_RX: Rows, label_R: Integers, classes: int, levels_X: Sequence[int], seed: int) -> str:
        """Return a fitted model as text. The result is deterministic for a seed.

        Parameters
        ----------
        label_R
            Class of each patient; at least two of the C classes occur.
        levels_X
            Number of levels of a categorical column, whose values are level indices; 0 for a numeric column.
        """

    @abstractmethod
    def load(self, text: str) -> Any:
        """Return the model from the text of `fit`, for `logits`."""

    @abstractmethod
    def logits(self, model: Any, rows_PX: Rows) -> Floats:
        """Return log-probabilities up to a constant per patient, (P, C)."""


class Trees(Learner):
    """Gradient-boosted trees; each split learns a direction for missing values."""

    @override
    def fit(self, rows_RX: Rows, label_R: Integers, classes: int, levels_X: Sequence[int], seed: int) -> str:
        lightgbm = _library("lightgbm")
        aim = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
        data = lightgbm.Dataset(rows_RX.astype(np.float64), label_R)
        settings = {**TREE_SETTINGS, **aim, "seed": seed % 2**31}
        text: str = lightgbm.train(settings, data, num_boost_round=TREES).model_to_string()
        return text

    @override
    def load(self, text: str) -> Any:
        return _library("lightgbm").Booster(model_str=text)

    @override
    def logits(self, model: Any, rows_PX: Rows) -> Floats:
        raw = np.asarray(model.predict(rows_PX.astype(np.float64), raw_score=True, num_threads=1))
        return np.stack([-raw / 2, raw / 2], axis=1) if raw.ndim == 1 else raw  # two classes: ln odds of the second


class Linear(Learner):
    """Logistic regression with a ridge penalty, on standardised numbers, levels and indicators of missing values."""

    @override
    def fit(self, rows_RX: Rows, label_R: Integers, classes: int, levels_X: Sequence[int], seed: int) -> str:
        model = moments(rows_RX, levels_X)
        fitted = (
            _library("sklearn.linear_model")
            .LogisticRegression(C=STRENGTH, max_iter=200)
            .fit(standardised(model, rows_RX), label_R)
        )
        both = classes == 2  # scikit-learn then stores one row of weights
        coef_CZ = np.concatenate([-fitted.coef_, fitted.coef_]) / 2 if both else fitted.coef_
        intercept_C = np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2 if both else fitted.intercept_
        return json.dumps({**model, "coef": coef_CZ.tolist(), "intercept": intercept_C.tolist()})

    @override
    def load(self, text: str) -> Any:
        return {name: np.asarray(value) for name, value in json.loads(text).items()}

    @override
    def logits(self, model: Any, rows_PX: Rows) -> Floats:
        out: Floats = standardised(model, rows_PX) @ model["coef"].T + model["intercept"]
        return out


def moments(rows_RX: Rows, levels_X: Sequence[int]) -> dict[str, list[float]]:
    """Return the statistics of a hospital's training patients that `standardised` needs."""
    with np.errstate(all="ignore"):
        known_X = (~np.isnan(rows_RX)).any(axis=0)
        filled_RX = np.where(known_X, rows_RX.astype(np.float64), 0.0)
        low_X, middle_X, high_X = np.nanpercentile(filled_RX, [TAILS[0], 50.0, TAILS[1]], axis=0)
    model: dict[str, Any] = {"levels": list(levels_X), "low": low_X, "middle": middle_X, "high": high_X}
    columns_RZ = _columns(model, rows_RX)
    mean_Z, std_Z = columns_RZ.mean(axis=0), columns_RZ.std(axis=0)
    model |= {"mean": mean_Z, "std": np.where(std_Z > 1e-9, std_Z, 1.0)}
    return {name: np.asarray(value).tolist() for name, value in model.items()}


def standardised(model: Mapping[str, Any], rows_PX: Rows) -> Floats:
    """Return the columns of a linear model with mean 0 and deviation 1 among the patients of `moments`, (P, Z)."""
    out: Floats = (_columns(model, rows_PX) - np.asarray(model["mean"])) / np.asarray(model["std"])
    return out


def told_by_many(model: Mapping[str, Any], rows_RX: Rows, least: int) -> list[bool]:
    """Return for each column whether at least `least` patients differ from its most common value, (Z,).

    In any other column, a shared weight would learn from too few patients.
    """
    columns_RZ = _columns(model, rows_RX)
    common_Z = [np.unique(column_R, return_counts=True)[1].max(initial=0) for column_R in columns_RZ.T]
    return [bool(len(columns_RZ) - common >= least) for common in common_Z]


def columns_of(levels_X: Sequence[int]) -> int:
    """Return the number Z of columns: one per number or level, and one per indicator of a missing value."""
    return sum(levels or 1 for levels in levels_X) + len(levels_X)


def _library(name: str) -> Any:
    """Import a library that only some runs need.

    Raises
    ------
    UserError
        The library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"model.encoders.alone: needs {name.partition('.')[0]}, which is not installed; "
            "pip install 'federated-remind[alone]', or set it to none"
        ) from None


def _columns(model: Mapping[str, Any], rows_PX: Rows) -> Floats:
    """Return clipped and imputed numbers, one column per level, and indicators of missing values, (P, Z)."""
    missing_PX = np.isnan(rows_PX)
    parts: list[Floats] = []
    for x, levels in enumerate(model["levels"]):
        value_P = rows_PX[:, x].astype(np.float64)
        if levels:
            parts.append((value_P[:, None] == np.arange(levels)).astype(np.float64))
        else:
            filled_P = np.where(missing_PX[:, x], model["middle"][x], value_P)
            parts.append(np.clip(filled_P, model["low"][x], model["high"][x])[:, None])
    return np.concatenate([*parts, missing_PX.astype(np.float64)], axis=1)


LEARNERS: Mapping[str, Learner] = {"trees": Trees(), "linear": Linear()}
