"""The runner of yardsticks: trees and linear models on summary features, on the patients and folds of all other cells.

Before a model is scored, only the features of test patients are used. Training settings do not affect the result.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from remind.config import Scalar
from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION, Cohort
from remind.data.features import FeatureMap
from remind.data.sites.hospitals import pool
from remind.data.sites.sites import Site as Hospital
from remind.federation.message_statistics import Evaluation
from remind.metrics.statistics import GroupStatistics, collect
from remind.outcomes.base import Seen
from remind_studies.cells.cell import BySite, Cell, CellResult, Outcome
from remind_studies.cells.patients import hospitals
from remind_studies.cells.train import Traces, evaluations, result_of
from remind_studies.yardsticks.base import Yardstick, registry
from remind_studies.yardsticks.tasks import Answers, answers
from remind_studies.yardsticks.tasks import Patients as Learning

RUNNER, LEARNER, PLACE = "yardstick", "learner", "place"
LOCAL, POOLED, FEDERATED = "local", "pooled", "federated"
Groups = dict[int, Evaluation]
NEEDED = ("data.", "synthetic.", "seed")  # settings that a yardstick's result depends on


def needed(settings: dict[str, Scalar]) -> dict[str, Scalar]:
    """Return the settings that affect a yardstick; runs that differ only in others share a cell."""
    return {key: value for key, value in settings.items() if key.startswith(NEEDED)}


def run(cell: Cell, folder: Path) -> CellResult:
    """Train the yardstick at each hospital, on all pooled patients, or in a federation, and evaluate it."""
    del folder
    began = time.monotonic()
    patients = hospitals(cell)
    method, options = registry.choose(str(cell.options[LEARNER]))
    yardstick: Yardstick = method.build(options)
    pooled = str(cell.options[PLACE]) == POOLED
    places = [pool(patients)] if pooled else list(patients)
    maps = _maps(yardstick, places)
    learners = [learning(own.cohort, to_features) for own, to_features in zip(places, maps, strict=True)]
    models = answers(yardstick, patients[0].cohort.schema.predicts, learners)
    if pooled:
        maps, models = maps * len(patients), [models[0]] * len(patients)
    found = [examined(own, *pair) for own, pair in zip(patients, zip(maps, models, strict=True), strict=True)]
    names = [own.name for own in patients]
    outcome = Outcome(
        test=dict(zip(names, (test for test, _ in found), strict=True)),
        validation=dict(zip(names, (validation for _, validation in found), strict=True)),
    )
    return result_of(cell, patients, [outcome], Traces(), began)


def _maps(yardstick: Yardstick, places: Sequence[Hospital]) -> list[FeatureMap]:
    """Fit the features of each place: with its own training patients' word weights, or in a federation without."""
    if yardstick.federated:
        return [FeatureMap.of(places[0].cohort.schema)] * len(places)
    return [FeatureMap.fitted(_part(own.cohort, TRAIN)) for own in places]


def learning(cohort: Cohort, to_features: FeatureMap) -> tuple[Learning, Learning]:
    """Return a hospital's training patients, and the patients that choose between settings."""
    train, validation = (_part(cohort, part) for part in (TRAIN, VALIDATION))
    return _learning(train, to_features), _learning(validation, to_features)


def _learning(cohort: Cohort, to_features: FeatureMap) -> Learning:
    return Learning(to_features.features(cohort), cohort.label_N, cohort.target_NT)


def _part(cohort: Cohort, part: int) -> Cohort:
    """Return the patients of a part of the split."""
    assert cohort.split_N is not None
    return cohort.take(cohort.split_N == part)


def examined(hospital: Hospital, to_features: FeatureMap, model: Answers) -> tuple[Groups, Groups]:
    """Return the statistics of a hospital's test and of its validation patients, by group."""
    found: list[BySite] = []
    for part in (TEST, VALIDATION):
        chosen = _part(hospital.cohort, part)
        own = _collected(chosen, model.outputs(to_features.features(chosen))) if len(chosen) else {}
        found.append(evaluations({hospital.name: own}))
    test, validation = (one[hospital.name] for one in found)
    return test, validation


def _collected(cohort: Cohort, output_NW: NDArray[np.float64]) -> dict[int, GroupStatistics]:
    """Return the statistics from what a model's head would give; of an outcome by class from ln p."""
    outcome, shut_N = cohort.schema.predicts, np.zeros(len(cohort))
    if outcome.by_class:
        loss_N = -output_NW[np.arange(len(cohort)), cohort.label_N]
        return collect(cohort.groups_N, cohort.label_N, loss_N, output_NW, shut_N, outcome=outcome.kind)
    assert cohort.target_NT is not None
    loss_N = outcome.loss(torch.from_numpy(output_NW), torch.from_numpy(cohort.target_NT)).numpy()
    return outcome.collect(Seen(cohort.groups_N, cohort.label_N, cohort.target_NT, loss_N, shut_N), output_NW)
