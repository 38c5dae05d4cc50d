"""Federated boosted trees: XGBoost by Flower's strategies. Letters: N patients, F columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field
from typing_extensions import override

from remind.data.features import Features
from remind.registry import Options
from remind_studies.yardsticks.base import (
    NUMBER,
    Constant,
    Floats,
    Hospital,
    Labels,
    Model,
    Sample,
    Yardstick,
    in_order,
    mean_loss,
    missing,
    registry,
)
from remind_studies.yardsticks.flower_trees import Way, grow

SURE = 0.01  # the shares that trees begin with stay this far from 0 and 1


class TreeOptions(Options):
    """Options of federated trees; `rounds` are those in which every hospital adds a tree."""

    rounds: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=0.2, gt=0)
    depth: int = Field(default=3, ge=1)


class OneAgainstRest(Model):
    """Trees for one class of two, or for each class against the others, whose probabilities are then scaled to 1.

    Of a number, the trees for it.
    """

    def __init__(self, boosters: Sequence[tuple[Any, int]], classes: int) -> None:
        self._boosters, self._classes = boosters, classes

    @override
    def predict(self, features: Features) -> Floats:
        data = _library().DMatrix(features.values_NF, nthread=1)
        p_NC = np.stack([b.predict(data, iteration_range=(0, trees)) for b, trees in self._boosters], axis=1)
        p_NC = p_NC.astype(np.float64)
        if self._classes == NUMBER:
            return p_NC
        if len(self._boosters) == 1:
            return np.concatenate([1 - p_NC, p_NC], axis=1)
        return np.asarray(p_NC / np.maximum(p_NC.sum(axis=1, keepdims=True), np.finfo(float).tiny))


class FederatedTrees(Yardstick):
    """Base of both ways. The validation patients of all hospitals together choose how many rounds are kept.

    Hospitals tell the coordinator their numbers of training patients per class, since trees must begin with one share;
    of numbers nothing, since those of an outcome are standardised by what is declared: trees begin with 0.
    """

    federated = True
    options: TreeOptions
    way: Way

    @override
    def models(self, hospitals: Sequence[Hospital], classes: int) -> Sequence[Model]:
        able = [own for own in hospitals if len(own.train)]
        if not able:
            return [Constant(own.train.label_N, classes) for own in hospitals]
        targets = {NUMBER: (None,), 2: (1,)}.get(classes, tuple(range(classes)))
        model = OneAgainstRest([self._grown(able, target) for target in targets], classes)
        return [model] * len(hospitals)

    def parameters(self, share: float | None, hospitals: int) -> dict[str, Any]:
        """Return XGBoost's parameters. With bagging the hospitals' trees add up, so each counts 1/hospitals.

        Parameters
        ----------
        share
            Of the class among the training patients; None: trees for a number.
        """
        rate = self.options.learning_rate / (hospitals if self.way == "bagging" else 1)
        return {
            "objective": "reg:squarederror" if share is None else "binary:logistic",
            "base_score": 0.0 if share is None else share,
            "eta": rate,
            "max_depth": self.options.depth,
            "tree_method": "hist",
            "nthread": 1,
            "seed": 0,
            "verbosity": 0,
        }

    def _grown(self, hospitals: Sequence[Hospital], target: int | None) -> tuple[Any, int]:
        """Return the trees for one class, or for a number (None), and how many of them are kept."""
        xgboost = _library()
        samples = [in_order(own.train) for own in hospitals]
        label_N = np.concatenate([own.label_N for own in samples])
        share = None if target is None else float(np.clip((label_N == target).mean(), SURE, 1 - SURE))
        parameters = self.parameters(share, len(hospitals))
        data = [_matrix(xgboost, own, target) for own in samples]

        def step(hospital: int, model: bytes) -> bytes:
            booster = xgboost.Booster(parameters, [data[hospital]])
            if model:
                booster.load_model(bytearray(model))
                booster.set_param(parameters)
            before = booster.num_boosted_rounds() if model else 0
            booster.update(data[hospital], before)
            own = booster[before:] if self.way == "bagging" and before else booster
            return bytes(own.save_raw("json"))

        each = len(hospitals)
        rounds = self.options.rounds * (1 if self.way == "bagging" else each)
        booster = xgboost.Booster(parameters)
        booster.load_model(bytearray(grow(step, each, rounds, self.way)))
        return booster, _kept(xgboost, booster, hospitals, target, each if self.way == "bagging" else 1)


@registry.register(
    "xgb_bagging",
    title="federated XGBoost: all hospitals add trees",
    paper="Flower's FedXgbBagging",
    year=2023,
    options=TreeOptions,
)
class XgbBagging(FederatedTrees):
    """Every hospital adds a tree in every round."""

    way = "bagging"


@registry.register(
    "xgb_cyclic",
    title="federated XGBoost: hospitals add trees in turn",
    paper="Flower's FedXgbCyclic",
    year=2023,
    options=TreeOptions,
)
class XgbCyclic(FederatedTrees):
    """One hospital after the other adds a tree; as many trees in all as with bagging."""

    way = "cyclic"


def _kept(xgboost: Any, booster: Any, hospitals: Sequence[Hospital], target: int | None, each: int) -> int:
    """Return the trees of the round with the smallest loss over all validation patients; all where there are none."""
    trees = int(booster.num_boosted_rounds())
    held = [own.validation for own in hospitals if len(own.validation)]
    if not held:
        return trees
    label_N: Labels = np.concatenate([_wanted(own, target) for own in held])
    data = xgboost.DMatrix(np.concatenate([own.features.values_NF for own in held]), nthread=1)
    losses = []
    for number in range(each, trees + 1, each):
        p = booster.predict(data, iteration_range=(0, number)).astype(np.float64)
        if target is None:
            losses.append(mean_loss(p[:, None], label_N, NUMBER))
        else:
            losses.append(mean_loss(np.stack([1 - p, p], axis=1), label_N, 2))
    return each * (1 + int(np.argmin(losses)))


def _wanted(sample: Sample, target: int | None) -> Labels:
    """1 for patients of the class and 0 for others, or the numbers."""
    return sample.label_N if target is None else (sample.label_N == target).astype(np.int64)


def _matrix(xgboost: Any, sample: Sample, target: int | None) -> Any:
    return xgboost.DMatrix(sample.features.values_NF, _wanted(sample, target).astype(np.float32), nthread=1)


def _library() -> Any:
    try:
        import xgboost
    except ImportError:
        raise missing("xgboost") from None
    return xgboost
