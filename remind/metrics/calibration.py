"""Calibration: parameters that convert a model's logits into calibrated probabilities, and these into decisions.

Temperature scaling (Guo et al. 2017) divides all logits by one T. Vector scaling gives each class a factor and a bias;
with two classes the log-odds then have one slope and one bias (Platt 1999). Both keep their parameters in `Scaling`.
An operating point is a threshold of the second class's calibrated log-odds, chosen on validation patients.

`calibration.json` in a run's folder is one `Calibration`. Shapes: B patients, C classes.
"""

import json
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from remind.config.evaluation import CalibrationMethod
from remind.errors import UserError
from remind.files import write_whole

CALIBRATION = "calibration.json"

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Factor = Annotated[float, Field(gt=0)]
Unit01 = Annotated[float, Field(ge=0, le=1)]
Natural = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scaling(_Part):
    """z ← weights·z + bias, class by class.

    Attributes
    ----------
    weights, bias
        One value per class. Of a temperature T all weights are 1/T and the biases 0.
    """

    weights: tuple[Factor, ...]
    bias: tuple[float, ...]

    @classmethod
    def of_temperature(cls, temperature: float, classes: int) -> Self:
        """Build z ← z/T; T = 1 changes nothing."""
        return cls(weights=(1 / temperature,) * classes, bias=(0.0,) * classes)

    @property
    def temperature(self) -> float:
        """T of a temperature, by the first class's factor."""
        return 1 / self.weights[0]

    @classmethod
    def of_odds(cls, slope: float, bias: float) -> Self:
        """Build the calibration of two classes, log-odds ← slope·log-odds + bias."""
        return cls(weights=(slope, slope), bias=(0.0, bias))

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.weights) != len(self.bias):
            raise ValueError("weights and bias must have one value per class")
        return self

    def odds(self, odds_K: Floats) -> Floats:
        """Return the calibrated log-odds of the second of two classes, (K,)."""
        scaled_K: Floats = self.weights[1] * odds_K + self.bias[1] - self.bias[0]
        return scaled_K

    def log_p(self, logits_BC: Floats) -> Floats:
        """Return the logarithms of the calibrated probabilities, (B, C)."""
        z_BC = logits_BC.astype(np.float64) * np.array(self.weights) + np.array(self.bias)
        log_p_BC: Floats = z_BC - np.logaddexp.reduce(z_BC, axis=1, keepdims=True)
        return log_p_BC


class OperatingPoint(_Part):
    """A threshold, and what it achieved on the validation patients it was chosen on.

    Attributes
    ----------
    log_odds
        The decision is class 1 if the calibrated ln p₁ − ln p₀ is at least this.
    sensitivity, specificity, positives, negatives
        On the validation patients; the test table has the values on test patients.
    """

    log_odds: float
    sensitivity: Unit01
    specificity: Unit01
    positives: Natural
    negatives: Natural

    @property
    def threshold(self) -> float:
        """The same threshold as a probability of class 1."""
        return float(np.exp(-np.logaddexp(0.0, -self.log_odds)))


class Calibration(_Part):
    """Everything needed to compute decisions from a model's logits.

    Attributes
    ----------
    method
        none: the model's raw probabilities.
    classes
        Names of the classes, in the order of the logits.
    round
        The round of the calibrated model.
    patients
        Number of validation patients that the calibration was fitted on.
    scaling, group_scaling
        For all patients; and by group (bitmask), for groups with their own scaling.
    wanted
        The operating point's condition, such as ``sensitivity >= 0.9``; empty: decide for the most probable class.
    reason
        Why a requested part is missing, such as too few validation patients; empty if nothing is missing.
    point, group_points
        The threshold for all patients; and by group, for groups with enough validation patients of both classes.
    """

    method: CalibrationMethod
    classes: tuple[str, ...]
    round: Natural
    patients: Natural
    scaling: Scaling
    group_scaling: dict[int, Scaling] = {}
    wanted: str = ""
    reason: str = ""
    point: OperatingPoint | None = None
    group_points: dict[int, OperatingPoint] = {}

    @model_validator(mode="after")
    def _fits_the_classes(self) -> Self:
        scalings = (self.scaling, *self.group_scaling.values())
        if any(len(scaling.weights) != len(self.classes) for scaling in scalings):
            raise ValueError(f"scaling must have one weight and bias for each of {len(self.classes)} classes")
        if (self.point or self.group_points) and len(self.classes) != 2:
            raise ValueError("an operating point needs two classes")
        return self

    @classmethod
    def none(cls, classes: tuple[str, ...], round_: int = 0) -> Self:
        """Return a calibration that changes nothing: raw probabilities, and the most probable class."""
        scaling = Scaling.of_temperature(1.0, len(classes))
        return cls(method="none", classes=classes, round=round_, patients=0, scaling=scaling)

    def scaling_of(self, group: int) -> Scaling:
        """Return the scaling of a group: its own, or that of all patients."""
        return self.group_scaling.get(group, self.scaling)

    def point_of(self, group: int) -> OperatingPoint | None:
        """Return the operating point of a group: its own, or that of all patients; None: the most probable class."""
        return self.group_points.get(group, self.point)

    def calibrated(self, logits_BC: Floats, group_B: Integers) -> Floats:
        """Return the calibrated probabilities, (B, C), from logits or from log-probabilities."""
        p_BC = np.empty(logits_BC.shape, dtype=np.float64)
        for group in np.unique(group_B).tolist():
            mine_B = group_B == group
            p_BC[mine_B] = np.exp(self.scaling_of(group).log_p(logits_BC[mine_B]))
        return p_BC

    def decide(self, p_BC: Floats, group_B: Integers) -> Integers:
        """Return the class decided for each patient, (B,), from calibrated probabilities."""
        decided_B: Integers = p_BC.argmax(axis=1)
        for group in np.unique(group_B).tolist():
            if (point := self.point_of(group)) is not None:
                mine_B = group_B == group
                with np.errstate(divide="ignore"):
                    odds_B = np.log(p_BC[mine_B, 1]) - np.log(p_BC[mine_B, 0])
                decided_B[mine_B] = odds_B >= point.log_odds
        return decided_B


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file, complete or not at all; only the owner can read it."""
    text = json.dumps(calibration.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"), private=True)


def read_calibration(path: Path) -> Calibration | None:
    """Return the calibration from a file; None if there is no file.

    Raises
    ------
    UserError
        The file is not a calibration.
    """
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: cannot be read: {why}; restore it from a copy") from None
