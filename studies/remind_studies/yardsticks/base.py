"""What a yardstick is: a learner of labels from summary features.

Letters: N patients (of survival, patients in an interval), F columns, C classes; C = 0 stands for a number, which is
predicted as one column. What an outcome asks of learners is in `tasks`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from remind.data.features import Features
from remind.errors import UserError
from remind.registry import Options, Registry

Floats = NDArray[np.float64]
Labels = NDArray[np.int64] | NDArray[np.float64]
NUMBER = 0  # as a number of classes
INSTALL = "pip install 'federated-remind[studies]'"
LEAST_P = 1e-7  # probabilities are kept this far from 0 and 1: a logarithm of them is finite


@dataclass(frozen=True)
class Sample:
    """Patients with features and labels.

    Attributes
    ----------
    label_N
        Classes 0 … C − 1, or numbers.
    person_N
        Whose row each is, where a patient has several; None: each row is a patient.
    """

    features: Features
    label_N: Labels
    person_N: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.label_N)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Sample":
        """Return the patients at these positions, or under this mask."""
        person_N = None if self.person_N is None else self.person_N[index]
        return Sample(self.features.take(index), self.label_N[index], person_N)


@dataclass(frozen=True)
class Hospital:
    """What a hospital has: patients to train on, and patients that choose between settings."""

    train: Sample
    validation: Sample


class Model(ABC):
    """What was learned."""

    @abstractmethod
    def predict(self, features: Features) -> Floats:
        """Return the probability of each class, (N, C), or the number, (N, 1)."""


class Yardstick(ABC):
    """Base of every yardstick: from hospitals to a model for each.

    Attributes
    ----------
    federated
        Whether the hospitals train one model together and keep their patients.
    """

    federated: ClassVar[bool]

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def models(self, hospitals: Sequence[Hospital], classes: int) -> Sequence[Model]:
        """Return the model of each hospital. The order of a hospital's patients does not matter."""


class Learner(Yardstick):
    """A way of learning from patients in one place, each hospital by itself."""

    federated = False

    @override
    def models(self, hospitals: Sequence[Hospital], classes: int) -> Sequence[Model]:
        """Return a model for each hospital; of one class it is the shares of the classes, of one number that number."""
        return [
            Constant(own.train.label_N, classes) if one_class(own.train.label_N) else self.fit(own, classes)
            for own in hospitals
        ]

    @abstractmethod
    def fit(self, hospital: Hospital, classes: int) -> Model:
        """Learn from a hospital whose training patients are of two classes, or have two numbers, at least."""


registry: Registry[Yardstick] = Registry("yardstick", "remind_studies.yardsticks.methods", Yardstick)


class Constant(Model):
    """The shares of the classes, for a hospital with one class: (n_c + ½) / (n + C/2), the same for every patient.

    Of numbers their mean; 0 without any.
    """

    def __init__(self, label_N: Labels, classes: int) -> None:
        if classes == NUMBER:
            self._p_C = np.array([label_N.mean() if len(label_N) else 0.0])
            return
        counts_C = np.bincount(label_N.astype(np.int64), minlength=classes) + 0.5
        self._p_C = counts_C / counts_C.sum()

    @override
    def predict(self, features: Features) -> Floats:
        return np.tile(self._p_C, (len(features.values_NF), 1))


def log_p(p_NC: Floats) -> Floats:
    """Return finite log-probabilities that sum to 1 as probabilities."""
    kept_NC = np.clip(p_NC, LEAST_P, 1.0)
    return np.asarray(np.log(kept_NC / kept_NC.sum(axis=1, keepdims=True)))


def one_class(label_N: Labels) -> bool:
    """Return whether fewer than two classes, or numbers, occur."""
    return len(np.unique(label_N)) < 2


def in_order(sample: Sample) -> Sample:
    """Return the patients in an order that depends on their features and labels alone.

    Folds and sums then do not depend on the order in which a file lists patients.
    """
    keys = np.column_stack([sample.label_N, np.nan_to_num(sample.features.values_NF, nan=-np.inf)])
    return sample.take(np.lexsort(keys.T[::-1]))


def folds(sample: Sample, number: int) -> NDArray[np.int64]:
    """Return a fold of each row, dealt in turn within each class, or in the order of numbers.

    Rows of a person share a fold; the person's label is the largest of them.
    """
    if sample.person_N is None:
        return _dealt(sample.label_N, number)
    _, first_P, person_N = np.unique(sample.person_N, return_index=True, return_inverse=True)
    label_P = np.full(len(first_P), -np.inf)
    np.maximum.at(label_P, person_N, sample.label_N)
    order_P = np.argsort(first_P)  # persons in the order of their rows
    fold_P = np.empty(len(first_P), dtype=np.int64)
    fold_P[order_P] = _dealt(label_P[order_P], number)
    return fold_P[person_N]


def _dealt(label_N: Labels, number: int) -> NDArray[np.int64]:
    fold_N = np.empty(len(label_N), dtype=np.int64)
    fold_N[np.argsort(label_N, kind="stable")] = np.arange(len(label_N)) % number
    return fold_N


def missing(package: str) -> UserError:
    """Return the error that a library is not installed."""
    return UserError(f"yardsticks need {package}: {INSTALL}, or leave them out with --no-anchors")


def mean_loss(predicted_NC: Floats, label_N: Labels, classes: int) -> float:
    """Return the mean of −ln p of the true class, or of half the squared error of a number."""
    if classes == NUMBER:
        return float(0.5 * ((predicted_NC[:, 0] - label_N) ** 2).mean())
    return float(-log_p(predicted_NC)[np.arange(len(label_N)), label_N.astype(np.int64)].mean())
