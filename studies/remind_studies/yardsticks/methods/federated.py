"""Federated boosted trees: XGBoost by Flower's strategies. Letters: N patients, F columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from remind.data.features import Features
from remind.registry import Options
from remind_studies.yardsticks.base import (
    Floats,
    Hospital,
    Model,
    Sample,
    Yardstick,
    in_order,
    mean_log_loss,
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
    """Trees for one class of two, or for each class against the others, whose probabilities are then scaled to 1."""

    def __init__(self, boosters: Sequence[tuple[Any, int]]) -> None:
        self._boosters = boosters

    @override
    def p_NC(self, features: Features) -> Floats:
        data = _library().DMatrix(features.values_NF, nthread=1)
        p_NC = np.stack([b.predict(data, iteration_range=(0, trees)) for b, trees in self._boosters], axis=1)
        p_NC = p_NC.astype(np.float64)
        if len(self._boosters) == 1:
            return np.concatenate([1 - p_NC, p_NC], axis=1)
        return np.asarray(p_NC / np.maximum(p_NC.sum(axis=1, keepdims=True), np.finfo(float).tiny))


class FederatedTrees(Yardstick):
    """Base of both ways. The validation patients of all hospitals together choose how many rounds are kept.

    Hospitals tell the coordinator their numbers of training patients per class, since trees must begin with one share.
    """

    federated = True
    options: TreeOptions
    way: Way

    @override
    def models(self, hospitals: Sequence[Hospital], classes: int) -> Sequence[Model]:
        targets = (1,) if classes == 2 else tuple(range(classes))
        model = OneAgainstRest([self._grown(hospitals, target) for target in targets])
        return [model] * len(hospitals)

    def parameters(self, share: float, hospitals: int) -> dict[str, Any]:
        """Return XGBoost's parameters. With bagging the hospitals' trees add up, so each counts 1/hospitals."""
        rate = self.options.learning_rate / (hospitals if self.way == "bagging" else 1)
        return {
            "objective": "binary:logistic",
            "base_score": share,
            "eta": rate,
            "max_depth": self.options.depth,
            "tree_method": "hist",
            "nthread": 1,
            "seed": 0,
            "verbosity": 0,
        }

    def _grown(self, hospitals: Sequence[Hospital], target: int) -> tuple[Any, int]:
        """Trees for one class, and how many of them are kept."""
        xgboost = _library()
        samples = [in_order(own.train) for own in hospitals]
        label_N = np.concatenate([own.label_N for own in samples])
        parameters = self.parameters(float(np.clip((label_N == target).mean(), SURE, 1 - SURE)), len(hospitals))
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


def _kept(xgboost: Any, booster: Any, hospitals: Sequence[Hospital], target: int, each: int) -> int:
    """Trees of the round with the smallest log-loss over all validation patients; all where there are none."""
    trees = int(booster.num_boosted_rounds())
    held = [own.validation for own in hospitals if len(own.validation)]
    if not held:
        return trees
    label_N: NDArray[np.int64] = np.concatenate([(own.label_N == target).astype(np.int64) for own in held])
    data = xgboost.DMatrix(np.concatenate([own.features.values_NF for own in held]), nthread=1)
    losses = []
    for number in range(each, trees + 1, each):
        p = booster.predict(data, iteration_range=(0, number)).astype(np.float64)
        losses.append(mean_log_loss(np.stack([1 - p, p], axis=1), label_N))
    return each * (1 + int(np.argmin(losses)))


def _matrix(xgboost: Any, sample: Sample, target: int) -> Any:
    return xgboost.DMatrix(sample.features.values_NF, (sample.label_N == target).astype(np.float32), nthread=1)


def _library() -> Any:
    try:
        import xgboost
    except ImportError:
        raise missing("xgboost") from None
    return xgboost
