"""What an outcome asks of yardsticks: questions that a learner of classes, or of a number, can answer.

| outcome | questions |
|---|---|
| classes, ordinal | which class |
| multilabel | each label: does it hold, of the patients of whom it is known |
| regression | the number, standardised by the mean and scale that are declared |
| survival | does the event happen in an interval, of each patient in each interval that he or she enters without it |

With logistic regression the last one is the discrete-time model of Cox (1972); with trees, hazards need not be
proportional. Letters: N patients, F columns, C classes, K intervals, W outputs of an outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.data.features import Columns, Features
from remind.errors import UserError
from remind.outcomes.base import Outcome
from remind.outcomes.classes import ByClass
from remind.outcomes.multilabel import Multilabel
from remind.outcomes.regression import Regression
from remind.outcomes.survival import Survival
from remind_studies.yardsticks.base import NUMBER, Floats, Hospital, Model, Sample, Yardstick, log_p

KNOWN = (ByClass, Multilabel, Regression, Survival)


@dataclass(frozen=True)
class Patients:
    """Patients with features, strata and targets, as in a cohort."""

    features: Features
    label_N: NDArray[np.int64]
    target_NT: Floats | None = None


@dataclass(frozen=True)
class Answers:
    """One model for each question of an outcome."""

    outcome: Outcome
    models: tuple[Model, ...]

    def outputs(self, features: Features) -> Floats:
        """Return the outputs (N, W) that a model's head would give; of an outcome by class ln p of each class."""
        own, first = self.outcome, self.models[0]
        if isinstance(own, ByClass):
            return log_p(first.predict(features))
        if isinstance(own, Regression):
            return first.predict(features)
        if isinstance(own, Survival):
            n, intervals = len(features.values_NF), own.width
            at = _within(features, np.tile(np.arange(n), intervals), np.repeat(np.arange(intervals), n), intervals)
            return _logit(first.predict(at)).reshape(intervals, n).T
        return np.stack([_logit(model.predict(features)) for model in self.models], axis=1)


def supports(outcome: Outcome) -> bool:
    """Return whether yardsticks can predict this outcome."""
    return isinstance(outcome, KNOWN)


def answers(yardstick: Yardstick, outcome: Outcome, hospitals: Sequence[tuple[Patients, Patients]]) -> list[Answers]:
    """Return what each hospital learns, from its training patients and those that choose between settings.

    Raises
    ------
    UserError
        Yardsticks cannot predict the outcome.
    """
    if not supports(outcome):
        raise UserError(f"yardsticks cannot predict {outcome.title}: leave them out with --no-anchors")
    models = []
    for question in range(outcome.width if isinstance(outcome, Multilabel) else 1):
        asked = [Hospital(*(_sample(outcome, part, question) for part in own)) for own in hospitals]
        models.append(yardstick.models(asked, _classes(outcome)))
    return [Answers(outcome, own) for own in zip(*models, strict=True)]


def _classes(outcome: Outcome) -> int:
    if isinstance(outcome, ByClass):
        return len(outcome.classes)
    return NUMBER if isinstance(outcome, Regression) else 2


def _sample(outcome: Outcome, patients: Patients, question: int) -> Sample:
    """Return the patients with what is asked of them."""
    if isinstance(outcome, ByClass):
        return Sample(patients.features, patients.label_N)
    target_NT = patients.target_NT
    assert target_NT is not None
    if isinstance(outcome, Regression):
        return Sample(patients.features, (target_NT[:, 0] - outcome.mean) / outcome.scale)
    if isinstance(outcome, Survival):
        place_N, event_N = outcome.placed(target_NT)
        entered_N = place_N + event_N
        person_R = np.repeat(np.arange(len(place_N)), entered_N)
        interval_R = np.arange(len(person_R)) - np.repeat(entered_N.cumsum() - entered_N, entered_N)
        happens_R = event_N[person_R] & (interval_R == place_N[person_R])
        at = _within(patients.features, person_R, interval_R, outcome.width)
        return Sample(at, happens_R.astype(np.int64), person_R)
    known_N = ~np.isnan(target_NT[:, question])
    return Sample(patients.features.take(known_N), target_NT[known_N, question].astype(np.int64))


def _within(features: Features, person_R: NDArray[np.int64], interval_R: NDArray[np.int64], width: int) -> Features:
    """Features of patients in intervals of time: one more column, which names the interval."""
    values_RF = np.column_stack([features.values_NF[person_R], interval_R.astype(np.float64)])
    return Features(values_RF, Columns.joined([features.columns, Columns(("interval",), (width,))]))


def _logit(p_N2: Floats) -> Floats:
    log_p_N2 = log_p(p_N2)
    return np.asarray(log_p_N2[:, 1] - log_p_N2[:, 0])
