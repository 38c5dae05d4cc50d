"""The runner of study `adapt`: a hospital takes no part in training and adapts the model afterwards.

First the other hospitals train a model. Then the hospital adapts it with an increasing number of its own patients, and
trains alone with the same patients: the same method, and the yardsticks. All models are evaluated on the hospital's
test patients, which no training used. Patients are drawn in one order, so a smaller set is part of a larger one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from remind.adaptation.settings import FEWEST, OF_A_CLASS, Choices, divide, require_training_patients
from remind.adaptation.start import Start
from remind.config import Config
from remind.data.cohort.cohort import TEST, TRAIN, Cohort
from remind.data.features import FeatureMap
from remind.data.sites.sites import Site as Hospital
from remind.data.sites.split import shuffled
from remind.errors import UserError
from remind.federation.message_statistics import Evaluation
from remind.metrics.statistics import GroupStatistics
from remind_client.models.adaptation import Adaptation
from remind_client.store.site_store import SiteStore
from remind_studies.cells.cell import Cell, CellResult, Outcome
from remind_studies.cells.patients import hospitals
from remind_studies.cells.train import Traces, federate, result_of
from remind_studies.cells.unseen import refuse_what_does_not_travel
from remind_studies.cells.yardstick import examined, learning
from remind_studies.yardsticks.base import Yardstick, registry
from remind_studies.yardsticks.tasks import answers

ALONE, ADAPTED, SEPARATOR = "alone", "adapted", ": "
ALL = 0  # as a number of patients
Statistics = Mapping[int, GroupStatistics]
Rows = dict[str, dict[int, Evaluation]]  # name of a row → the test patients of one hospital


def run(cell: Cell, folder: Path) -> CellResult:
    """Leave a hospital out, adapt at it, and train alone at it, with each number of patients.

    Raises
    ------
    UserError
        There is one hospital, or the method's model does not travel.
    """
    began = time.monotonic()
    config, options = cell.config, cell.options
    refuse_what_does_not_travel(config)
    patients = hospitals(cell)
    if len(patients) < 2:
        raise UserError("adapt: with one hospital left out, no other would train; give a cohort with two or more")
    out = patients[int(str(options["out"])) % len(patients)]
    others = [p for p in patients if p.name != out.name]
    rows = left_out(out, others, config, AdaptSettings.of(options), folder)
    outcomes = [Outcome(name=name, test={out.name: test}, validation={}) for name, test in rows.items()]
    return result_of(cell, patients, outcomes, Traces(), began)


@dataclass(frozen=True)
class AdaptSettings:
    """Options of a cell: numbers of patients (0: all), parts of the model that train, yardsticks, rounds."""

    numbers: tuple[int, ...]
    shared: tuple[str, ...]
    yardsticks: tuple[str, ...]
    rounds: int = 0

    @classmethod
    def of(cls, options: Mapping[str, object]) -> "AdaptSettings":
        """Read a cell's options."""
        numbers, shared, yardsticks = (str(options[key]).split(",") for key in ("numbers", "shared", "yardsticks"))
        rounds = int(str(options.get("rounds", 0)))
        return cls(tuple(map(int, numbers)), tuple(shared), tuple(filter(None, yardsticks)), rounds)


def row(number: int, name: str) -> str:
    """Return the name of a row; the names of all rows with this number of patients begin equally."""
    return f"{label(number)}{SEPARATOR}{name}"


def label(number: int) -> str:
    """Return a number of patients in words."""
    return "all" if number == ALL else str(number)


def left_out(out: Hospital, others: Sequence[Hospital], config: Config, settings: AdaptSettings, folder: Path) -> Rows:
    """Return the rows of one hospital that is not among the `others`."""
    result = federate(config, others, folder / "others").result
    start = Start("others", config, result.schema, result.tensors, result.routing, result.counts)
    rows: Rows = {}
    for number in settings.numbers:
        cohort = with_patients(out.cohort, number, config.seed)
        try:
            require_training_patients(cohort)
        except UserError:  # the hospital has one class or too few patients; it is left out
            continue
        place = folder / str(number)
        for shared in settings.shared:
            choices = Choices.model_validate(
                {"shared": shared} | ({"rounds": settings.rounds} if settings.rounds else {})
            )
            plan = Adaptation.plan(out.name, start, divided(cohort, config, config.seed), choices, config.device)
            rows[row(number, f"{ADAPTED}, {shared}")] = _evaluations(plan.run(SiteStore(place / shared)).test)
        alone = Config.from_flat(config.flat() | {"method.rule": "local", "federation.encoders": "local"})
        own = replace(out, cohort=divided(cohort, config, config.seed))
        tested = federate(alone, [own], place / ALONE).result.test[out.name]
        rows[row(number, f"{ALONE}, remind")] = _evaluations(tested)
        for name in settings.yardsticks:
            rows[row(number, f"{ALONE}, {name}")] = of_yardstick(name, replace(out, cohort=cohort))
    return rows


def of_yardstick(name: str, hospital: Hospital) -> dict[int, Evaluation]:
    """Return the statistics of a yardstick at this hospital alone, which trains on the validation patients too."""
    method, options = registry.choose(name)
    yardstick: Yardstick = method.build(options)
    assert hospital.cohort.split_N is not None
    to_features = FeatureMap.fitted(hospital.cohort.take(hospital.cohort.split_N == TRAIN))
    (model,) = answers(yardstick, hospital.cohort.schema.predicts, [learning(hospital.cohort, to_features)])
    return examined(hospital, to_features, model)[0]


def with_patients(cohort: Cohort, number: int, seed: int) -> Cohort:
    """Return the test patients, and this many other patients as training patients; 0: all others.

    The order is drawn by seed and stratified by class, so that the first patients have two classes.
    """
    assert cohort.split_N is not None
    rest = np.flatnonzero(cohort.split_N != TEST)
    order = rest[shuffled(cohort.patient_id_N[rest], seed)]
    # Patients are ordered by their position within their class, as a share of the class.
    place_R = np.empty(len(order))
    for label in np.unique(cohort.label_N[order]):
        mine = np.flatnonzero(cohort.label_N[order] == label)
        place_R[mine] = (np.arange(len(mine)) + 0.5) / len(mine) - (np.arange(len(mine)) < OF_A_CLASS)
    order = order[np.argsort(place_R, kind="stable")]
    chosen = order if number == ALL else order[: max(number, FEWEST)]
    rows = np.sort(np.concatenate([chosen, np.flatnonzero(cohort.split_N == TEST)]))
    found = cohort.take(rows)
    return replace(found, split_N=np.where(found.split_N == TEST, TEST, TRAIN).astype(np.int8))


def divided(cohort: Cohort, config: Config, seed: int) -> Cohort:
    """Return the cohort with validation patients if they are enough to choose a round; otherwise all are trained on."""
    assert cohort.split_N is not None
    own = np.flatnonzero(cohort.split_N == TRAIN)
    split_N = cohort.split_N.copy()
    share = config.data.validation / (1 - config.data.test)
    split_N[own] = divide(replace(cohort.take(own), split_N=None), seed, share, 0.0)
    return replace(cohort, split_N=split_N)


def _evaluations(statistics: Statistics) -> dict[int, Evaluation]:
    return {k: Evaluation.of(s) for k, s in statistics.items()}
