"""What a yardstick is: a learner of labels from summary features. Letters: N patients, F columns, C classes."""

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
INSTALL = "pip install 'federated-remind[studies]'"
LEAST_P = 1e-7  # probabilities are kept this far from 0 and 1: a logarithm of them is finite


@dataclass(frozen=True)
class Sample:
    """Patients with features and labels, (N,) of 0 … C − 1."""

    features: Features
    label_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label_N)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Sample":
        """Return the patients at these positions, or under this mask."""
        return Sample(self.features.take(index), self.label_N[index])


@dataclass(frozen=True)
class Hospital:
    """What a hospital has: patients to train on, and patients that choose between settings."""

    train: Sample
    validation: Sample


class Model(ABC):
    """What was learned."""

    @abstractmethod
    def p_NC(self, features: Features) -> Floats:
        """Return the probability of each class, (N, C)."""


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
        """See `Yardstick`; a hospital with one class learns the shares of the classes."""
        return [
            Constant(own.train.label_N, classes) if one_class(own.train.label_N) else self.fit(own, classes)
            for own in hospitals
        ]

    @abstractmethod
    def fit(self, hospital: Hospital, classes: int) -> Model:
        """Learn from a hospital whose training patients are of two classes at least."""


registry: Registry[Yardstick] = Registry("yardstick", "remind_studies.yardsticks.methods", Yardstick)


class Constant(Model):
    """The shares of the classes, for a hospital with one class: (n_c + ½) / (n + C/2), the same for every patient."""

    def __init__(self, label_N: NDArray[np.int64], classes: int) -> None:
        counts_C = np.bincount(label_N, minlength=classes) + 0.5
        self._p_C = counts_C / counts_C.sum()

    def p_NC(self, features: Features) -> Floats:
        """See `Model`."""
        return np.tile(self._p_C, (len(features.values_NF), 1))


def log_p(p_NC: Floats) -> Floats:
    """Return finite log-probabilities that sum to 1 as probabilities."""
    kept_NC = np.clip(p_NC, LEAST_P, 1.0)
    return np.asarray(np.log(kept_NC / kept_NC.sum(axis=1, keepdims=True)))


def one_class(label_N: NDArray[np.int64]) -> bool:
    """Return whether fewer than two classes occur."""
    return len(np.unique(label_N)) < 2


def in_order(sample: Sample) -> Sample:
    """Return the patients in an order that depends on their features and labels alone.

    Folds and sums then do not depend on the order in which a file lists patients.
    """
    keys = np.column_stack([sample.label_N, np.nan_to_num(sample.features.values_NF, nan=-np.inf)])
    return sample.take(np.lexsort(keys.T[::-1]))


def folds(label_N: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return a fold of each patient, dealt in turn within each class."""
    fold_N = np.empty(len(label_N), dtype=np.int64)
    start = 0
    for label in np.unique(label_N):
        mine = np.flatnonzero(label_N == label)
        fold_N[mine] = (start + np.arange(len(mine))) % number
        start += len(mine)
    return fold_N


def missing(package: str) -> UserError:
    """Return the error that a library is not installed."""
    return UserError(f"yardsticks need {package}: {INSTALL}, or leave them out with --no-anchors")


def mean_log_loss(p_NC: Floats, label_N: NDArray[np.int64]) -> float:
    """Return the mean of −ln p of the true class."""
    return float(-log_p(p_NC)[np.arange(len(label_N)), label_N].mean())
